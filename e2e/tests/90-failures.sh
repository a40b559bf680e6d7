# What is killed comes back, and what runs keeps running meanwhile.

pid_of() { pgrep -x -o "$1" | head -n 1; }

survives() {
    local name=$1 old url=$2
    old=$(pid_of "$name")
    [ -n "$old" ] || { echo "$name does not run"; return 1; }
    kill -9 "$old"
    # The workload answers while the component is away.
    curl -sf -m 2 -o /dev/null "$url" || { echo "the workload stopped serving without $name"; return 1; }
    eventually 60 sh -c "new=\$(pgrep -x -o $name) && [ \"\$new\" != $old ]"
}

test_every_component_can_be_killed_and_the_workload_serves_on() {
    deployment web 1
    k expose deployment web --port=80 >/dev/null
    local ip url
    ip=$(k get service web -o jsonpath='{.spec.clusterIP}')
    url="http://$ip/"
    eventually 20 curl -sf -m 2 -o /dev/null "$url"
    local before
    before=$(k get pods -l app=web -o jsonpath='{.items[0].metadata.uid}')
    for component in kubelet kube-apiserver kube-scheduler kube-controller kube-proxy etcd; do
        survives "$component" "$url"
    done
    eventually 90 kubectl get --raw /readyz
    eventually 90 kubectl wait --for=condition=Ready node --all --timeout=1s
    # Whole again: something new can be made and reached.
    eventually 60 k scale deployment web --replicas=2
    eventually 90 k rollout status deployment/web --timeout=1s
    contains "$(k get pods -l app=web -o jsonpath='{.items[*].metadata.uid}')" "$before"
    same 0 "$(k get pods -l app=web -o jsonpath='{.items[?(@.metadata.uid=="'"$before"'")].status.containerStatuses[0].restartCount}')"
}

test_all_components_killed_at_once_come_back() {
    deployment web 1
    k expose deployment web --port=80 >/dev/null
    local url
    url="http://$(k get service web -o jsonpath='{.spec.clusterIP}')/"
    eventually 20 curl -sf -m 2 -o /dev/null "$url"
    local pids=
    for component in kubelet kube-apiserver kube-scheduler kube-controller kube-proxy etcd; do
        pids="$pids $(pid_of $component)"
    done
    # shellcheck disable=SC2086
    kill -9 $pids
    curl -sf -m 2 -o /dev/null "$url"
    eventually 120 kubectl get --raw /readyz
    eventually 90 kubectl wait --for=condition=Ready node --all --timeout=1s
    eventually 60 k scale deployment web --replicas=2
    eventually 90 k rollout status deployment/web --timeout=1s
    curl -sf -m 2 -o /dev/null "$url"
}
