//! What is behind a node's kubelet, seen through the server: its pages, and the logs of its containers.

use crate::spdy_kubelet::SpdyKubelet;
use crate::stand::{Stand, TOKEN};
use crate::streams::open;
use futures::StreamExt;
use http::{Method, Request, Response};
use tokio_tungstenite::tungstenite::Message;

async fn send(stand: &Stand, method: Method, path: &str) -> Response<String> {
    let answer = stand.send(Request::builder().method(method).uri(path).body(Vec::new()).unwrap()).await;
    answer.map(|body| String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn pages_behind_a_proxy_lead_back_through_it() {
    let stand = Stand::start().await;
    let _kubelet = SpdyKubelet::start(&stand).await;
    let proxy = "/api/v1/nodes/old/proxy";
    // Links of a page are relative to its folder.
    for (asked, at) in [(proxy.to_owned(), format!("{proxy}/")), (format!("{proxy}?a=b"), format!("{proxy}/?a=b"))] {
        for method in [Method::GET, Method::HEAD] {
            let answer = send(&stand, method, &asked).await;
            assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (301, &*at));
        }
    }
    // Whoever writes must mean what it says.
    assert_ne!(send(&stand, Method::POST, proxy).await.status(), 301);

    let answer = send(&stand, Method::GET, &format!("{proxy}/page")).await;
    let want = format!("<html><a href=\"{proxy}/next\">next</a> <a href=\"other\">other</a></html>");
    assert_eq!((answer.status().as_u16(), answer.body()), (200, &want));

    let answer = send(&stand, Method::GET, &format!("{proxy}/moved")).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (302, &*format!("{proxy}/page"))
    );

    // Another port of the node is not the kubelet, and the server does not reach for its own machine.
    let answer = send(&stand, Method::GET, "/api/v1/nodes/old:80/proxy/page").await;
    assert!(answer.status() == 400 && answer.body().contains("address not allowed"), "{answer:?}");
    let answer = send(&stand, Method::GET, "/api/v1/nodes/ftp:old:80/proxy/page").await;
    assert!(answer.status() == 400 && answer.body().contains("invalid node request"), "{answer:?}");

    // Every method, and the path and query as they were sent.
    for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer = send(&stand, method.clone(), &format!("{proxy}/echo/a%20b/?x=%20&y")).await;
        assert_eq!((answer.status().as_u16(), answer.body()), (200, &format!("{method} /echo/a%20b/?x=%20&y")));
    }
}

#[tokio::test]
async fn a_log_goes_over_a_websocket_in_bytes_or_base64() {
    let stand = Stand::start().await;
    let _kubelet = SpdyKubelet::start(&stand).await;
    let path = "/api/v1/namespaces/default/pods/p/log?container=c";
    for (offered, chosen, want) in [
        ("binary.k8s.io", "binary.k8s.io", Message::binary("one\n")),
        ("base64.binary.k8s.io, binary.k8s.io", "base64.binary.k8s.io", Message::text("b25lCg==")),
    ] {
        let (mut client, protocol) = open(&stand, TOKEN, path, offered).await.unwrap();
        assert_eq!(protocol, chosen);
        assert_eq!(client.next().await.unwrap().unwrap(), want);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    }
    assert_eq!(open(&stand, TOKEN, path, "v5.channel.k8s.io").await.map(|_| ()).unwrap_err().0, 403);
    assert_eq!(
        open(&stand, TOKEN, &path.replace("=c", "=none"), "binary.k8s.io").await.map(|_| ()).unwrap_err().0,
        400
    );
}
