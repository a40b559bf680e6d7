# What a cluster is once it is up.

test_the_node_is_ready_and_the_control_plane_shows_as_mirror_pods() {
    eventually 30 kubectl wait --for=condition=Ready node --all --timeout=1s
    for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
        local pod
        pod=$(kubectl -n kube-system get pods -l component=$component -o name)
        contains "$pod" "pod/$component-"
        same Running "$(kubectl -n kube-system get "$pod" -o jsonpath='{.status.phase}')"
        same true "$(kubectl -n kube-system get "$pod" -o jsonpath='{.spec.hostNetwork}')"
    done
}

test_proxy_runs_as_daemon_set_and_dns_as_deployment() {
    eventually 60 kubectl -n kube-system rollout status daemonset/kube-proxy --timeout=1s
    eventually 60 kubectl -n kube-system rollout status deployment/cluster-dns --timeout=1s
}

test_anonymous_may_not_and_rbac_decides() {
    contains "$(curl -sk "$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')/api/v1/secrets")" '"reason": "Forbidden"'
    k create serviceaccount reader >/dev/null
    k create rolebinding reader --clusterrole=view --serviceaccount="$NS:reader" >/dev/null
    same yes "$(k auth can-i list pods --as="system:serviceaccount:$NS:reader")"
    same no "$(k auth can-i list secrets --as="system:serviceaccount:$NS:reader" || true)"
}

test_kubectl_explains_diffs_and_prints_tables() {
    contains "$(kubectl explain deployment.spec.strategy)" rollingUpdate
    contains "$(kubectl explain service.spec.type | tr -s ' \n' ' ')" "ENUM: ClusterIP ExternalName LoadBalancer NodePort"
    contains "$(kubectl api-resources)" deployments
    contains "$(kubectl get nodes -o wide)" INTERNAL-IP
    k create configmap c --from-literal=a=1 >/dev/null
    local changed
    changed=$(k create configmap c --from-literal=a=2 --dry-run=client -o yaml | k diff -f - || true)
    contains "$changed" '+  a: "2"'
    k create configmap e --from-literal=a=1 >/dev/null
    KUBE_EDITOR="sed -i 's/^  a: .*/  a: \"3\"/'" k edit configmap e >/dev/null
    same 3 "$(k get configmap e -o jsonpath='{.data.a}')"
    contains "$(k top pods 2>&1 || true)" "etrics"
}
