# Deployments behind Services.

refuses_client() { ! answers_client "$1"; }

test_a_service_is_reached_by_cluster_ip_by_name_and_by_node_port() {
    deployment web 2
    k expose deployment web --port=80 --type=NodePort >/dev/null
    client_pod
    local ip node_port node_ip
    ip=$(k get service web -o jsonpath='{.spec.clusterIP}')
    node_port=$(k get service web -o jsonpath='{.spec.ports[0].nodePort}')
    node_ip=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
    eventually 20 answers_client "$ip"
    eventually 20 answers_client web
    eventually 20 answers_client "web.$NS.svc.cluster.local"
    eventually 20 curl -sf -m 2 -o /dev/null "http://$node_ip:$node_port/"
    contains "$(from_client sh -c 'cat /etc/resolv.conf')" "$NS.svc.cluster.local"
    k scale deployment web --replicas=0 >/dev/null
    eventually 30 refuses_client "$ip"
    k delete service web >/dev/null
}

test_a_rollout_loses_no_request_and_can_be_undone() {
    deployment web 2
    k expose deployment web --port=80 >/dev/null
    local ip failed
    ip=$(k get service web -o jsonpath='{.spec.clusterIP}')
    eventually 20 curl -sf -m 2 -o /dev/null "http://$ip/"
    failed=$(mktemp)
    # However the test ends, the load must.
    # shellcheck disable=SC2064
    trap "rm -f '$failed'" EXIT
    (while [ -e "$failed" ]; do curl -sf -m 5 -o /dev/null "http://$ip/" || echo x >>"$failed"; done) >/dev/null 2>&1 &
    local load=$!
    k set image deployment/web nginx=nginx:1.24 >/dev/null
    k rollout status deployment/web --timeout=120s >/dev/null
    eventually 15 sh -c "curl -s http://$ip/ | grep -q 1.24"
    k rollout undo deployment/web >/dev/null
    k rollout status deployment/web --timeout=120s >/dev/null
    eventually 15 sh -c "curl -s http://$ip/ | grep -q 1.23.3"
    contains "$(k rollout history deployment/web)" REVISION
    local lost
    lost=$(wc -l <"$failed")
    rm -f "$failed"
    wait "$load" 2>/dev/null || true
    same 0 "$lost"
}

test_nothing_is_left_of_what_is_deleted() {
    deployment web 2
    k expose deployment web --port=80 >/dev/null
    local ip uids
    ip=$(k get service web -o jsonpath='{.spec.clusterIP}')
    uids=$(k get pods -o jsonpath='{.items[*].metadata.uid}')
    eventually 20 sh -c "nft list table ip kube-proxy | grep -q '$ip'"
    k delete deployment/web service/web --wait >/dev/null
    eventually 60 sh -c "[ -z \"\$(kubectl -n $NS get pods -o name)\" ]"
    eventually 20 sh -c "! nft list table ip kube-proxy | grep -q '$ip'"
    for uid in $uids; do
        eventually 20 sh -c "! find /sys/fs/cgroup -maxdepth 5 -name 'pod$uid' | grep -q ."
        eventually 20 sh -c "! ctr -a /run/ferrokube/containerd/containerd.sock -n k8s.io containers ls -q 'labels.\"io.kubernetes.pod.uid\"==$uid' | grep -q ."
    done
}

test_a_headless_service_names_its_pods() {
    deployment web 2
    apply <<'X'
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
X
    client_pod
    eventually 20 sh -c "[ \"\$(kubectl -n $NS exec client -- nslookup peers.$NS.svc.cluster.local | grep -c '^Address.*10\\.244\\.')\" -ge 2 ]"
}
