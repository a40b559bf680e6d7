//! Policies with real packets, between machines of a test.

use super::compile::compile;
use super::model::{Key, PodFacts, Protocol};
use super::tracker::Tracker;
use crate::testing::Machine;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::Duration;

/// A node with machines behind it, each over a link of its own as the CNI plugin makes it.
struct Node {
    node: Machine,
    tracker: Tracker,
}

impl Node {
    fn start() -> Option<Node> {
        let node = Machine::start()?;
        node.forward();
        let mut tracker = Tracker::new();
        node.apply(tracker.rules.full());
        Some(Node { node, tracker })
    }

    fn attach(&self, name: &str, v4: &str, v6: &str) -> Machine {
        let machine = Machine::start().unwrap();
        self.node.ip(format!("link add {name} type veth peer name eth0 netns {}", machine.thread_id));
        self.node.ip(format!("address add 169.254.1.1/32 dev {name}"));
        self.node.ip(format!("address add fd00:ffff::1/128 dev {name} nodad"));
        self.node.ip(format!("link set {name} up"));
        for command in [
            format!("address add {v4}/32 dev eth0"),
            format!("address add {v6}/128 dev eth0 nodad"),
            "link set eth0 up".into(),
            "route add 169.254.1.1 dev eth0".into(),
            "route add default via 169.254.1.1".into(),
            "route add fd00:ffff::1 dev eth0".into(),
            "-6 route add default via fd00:ffff::1".into(),
        ] {
            machine.ip(command);
        }
        self.node.ip(format!("route add {v4} dev {name}"));
        self.node.ip(format!("route add {v6} dev {name}"));
        machine
    }

    fn pod(&mut self, namespace: &str, app: &str, v4: &str, v6: &str) -> Machine {
        let machine = self.attach(&format!("{namespace}-{app}"), v4, v6);
        let facts = PodFacts {
            labels: [("app".to_owned(), app.to_owned())].into(),
            addresses: vec![v4.parse::<IpAddr>().unwrap(), v6.parse::<IpAddr>().unwrap()],
            ports: vec![("http".into(), Protocol::Tcp, 8080)],
            local: true,
        };
        self.tracker.set_pod(&(namespace.to_owned(), app.to_owned()), Some(facts));
        machine
    }

    fn policies(&mut self, specs: &[Value]) {
        for index in 0..2 {
            let key: Key = ("shop".to_owned(), index.to_string());
            let compiled = specs.get(index).map(|spec| {
                let (compiled, wrong) = compile("shop", &serde_json::from_value(json!({"spec": spec})).unwrap());
                assert_eq!(wrong, Vec::<String>::new());
                compiled.unwrap()
            });
            self.tracker.set_policy(&key, compiled);
        }
        let script = self.tracker.rules.script();
        self.node.apply(script);
    }
}

#[test]
fn packets_go_where_policies_let_them() {
    let Some(mut node) = Node::start() else { return };
    for (name, team) in [("shop", "a"), ("other", "b")] {
        node.tracker.set_namespace(name, Some([("team".to_owned(), team.to_owned())].into()));
    }
    let (web4, web6) = ("10.244.0.2", "fd00::2");
    let web = node.pod("shop", "web", web4, web6);
    let client = node.pod("shop", "client", "10.244.0.3", "fd00::3");
    let other = node.pod("other", "client", "10.244.0.4", "fd00::4");
    let outside = node.attach("outside", "192.0.2.5", "2001:db8::5");
    web.listen(8080);
    web.listen(8081);
    // A service as a proxy makes it: translated on its way in, masqueraded where a pod reaches itself.
    node.node.apply(
        "add table ip service
add chain ip service in { type nat hook prerouting priority dstnat ; }
add rule ip service in ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.2:8080
add chain ip service out { type nat hook postrouting priority srcnat ; }
add rule ip service out ip saddr 10.244.0.2 ip daddr 10.244.0.2 masquerade
"
        .into(),
    );
    let to_web = |rule: Value| json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [rule]});
    let nothing_in = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]});
    let clients = json!({"podSelector": {"matchLabels": {"app": "client"}}});
    let egress = |rules: Value| json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": rules});
    // Who reaches web's port 8080, in the order client, other, outside; and whether client reaches 8081.
    for (what, policies, reached, client_8081) in [
        ("no policy", vec![], [true, true, true], true),
        ("nothing comes in", vec![nothing_in.clone()], [false, false, false], false),
        ("everything comes in", vec![to_web(json!({}))], [true, true, true], true),
        ("pods of the namespace", vec![to_web(json!({"from": [clients]}))], [true, false, false], true),
        (
            "pods of another namespace",
            vec![to_web(json!({"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}))],
            [false, true, false],
            false,
        ),
        (
            "a block",
            vec![to_web(
                json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}]}),
            )],
            [false, false, true],
            false,
        ),
        (
            "a block with an exception",
            vec![to_web(
                json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.0.4/32"]}}, {"ipBlock": {"cidr": "::/0", "except": ["fd00::4/128"]}}]}),
            )],
            [true, false, true],
            true,
        ),
        ("a named port", vec![to_web(json!({"ports": [{"port": "http"}]}))], [true, true, true], false),
        (
            "a range of ports",
            vec![to_web(json!({"ports": [{"port": 8000, "endPort": 8080}]}))],
            [true, true, true],
            false,
        ),
        ("another protocol", vec![to_web(json!({"ports": [{"protocol": "UDP"}]}))], [false, false, false], false),
        (
            "two policies add up",
            vec![nothing_in.clone(), to_web(json!({"from": [clients]}))],
            [true, false, false],
            true,
        ),
        ("nothing goes out", vec![egress(json!([]))], [false, true, true], false),
        (
            "only to a port of web",
            vec![egress(
                json!([{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}]),
            )],
            [true, true, true],
            false,
        ),
        ("only to a named port", vec![egress(json!([{"ports": [{"port": "http"}]}]))], [true, true, true], false),
        ("what goes out must come in", vec![egress(json!([{}])), nothing_in.clone()], [false, false, false], false),
        ("and none again", vec![], [true, true, true], true),
    ] {
        node.policies(&policies);
        for address in [web4, web6] {
            let got = std::thread::scope(|scope| {
                let tries = [&client, &other, &outside]
                    .map(|machine| scope.spawn(move || machine.connect(address, 8080).is_some()));
                tries.map(|attempt| attempt.join().unwrap())
            });
            assert_eq!(got, reached, "{what}, {address}");
            assert_eq!(client.connect(address, 8081).is_some(), client_8081, "{what}, {address}, port 8081");
            assert!(node.node.connect(address, 8080).is_some(), "{what}: the node always reaches its pods");
        }
        assert_eq!(client.connect("10.96.0.1", 80).is_some(), reached[0], "{what}, through a service");
        assert!(web.connect("10.96.0.1", 80).is_some(), "{what}: a pod always reaches itself");
    }
}

#[test]
fn a_connection_that_is_open_follows_the_policy() {
    let Some(mut node) = Node::start() else { return };
    node.tracker.set_namespace("shop", Some(Default::default()));
    let web = node.pod("shop", "web", "10.244.0.2", "fd00::2");
    let client = node.pod("shop", "client", "10.244.0.3", "fd00::3");
    web.listen(8080);
    let mut stream = client.connect("10.244.0.2", 8080).unwrap();
    let mut echo = |millis: u64| {
        stream.set_read_timeout(Some(Duration::from_millis(millis))).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
    };
    assert!(echo(1000));
    node.policies(&[json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]})]);
    assert!(!echo(300), "the connection goes on although nothing may come in");
    node.policies(&[]);
    assert!(echo(5000), "the connection is lost although all may come in again");
}

#[test]
fn datagrams_follow_the_policy_too() {
    let Some(mut node) = Node::start() else { return };
    node.tracker.set_namespace("shop", Some(Default::default()));
    let web = node.pod("shop", "web", "10.244.0.2", "fd00::2");
    let client = node.pod("shop", "client", "10.244.0.3", "fd00::3");
    web.listen_udp(53);
    web.listen_udp(54);
    for (what, ports, reached) in [
        ("all", json!([]), [true, true]),
        ("one", json!([{"port": 53, "protocol": "UDP"}]), [true, false]),
        ("the same number of TCP", json!([{"port": 53}]), [false, false]),
        ("the protocol", json!([{"protocol": "UDP"}]), [true, true]),
    ] {
        node.policies(&[json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": ports}]})]);
        assert_eq!([53, 54].map(|port| client.ask_udp("10.244.0.2", port)), reached, "{what}");
    }
}
