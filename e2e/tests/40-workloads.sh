# Controllers: what is declared comes about, and goes again with its owner.

test_a_job_completes_and_a_failed_one_gives_up() {
    k create job ok --image=busybox:1.36 -- sh -c 'echo done' >/dev/null
    k wait --for=condition=Complete job/ok --timeout=60s >/dev/null
    same done "$(k logs job/ok)"
    k delete job ok --wait >/dev/null
    eventually 60 sh -c "[ -z \"\$(kubectl -n $NS get pods -o name)\" ]"
}

test_a_daemon_set_runs_once_on_the_node() {
    apply <<'X'
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: d}
spec:
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec:
      containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"]}]
      terminationGracePeriodSeconds: 0
X
    k rollout status daemonset/d --timeout=60s >/dev/null
    same 1 "$(k get pods -l app=d -o name | wc -l)"
}

test_a_stateful_set_starts_in_order_with_stable_names() {
    apply <<'X'
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {clusterIP: None, selector: {app: s}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s}
spec:
  serviceName: s
  replicas: 2
  selector: {matchLabels: {app: s}}
  template:
    metadata: {labels: {app: s}}
    spec:
      containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"]}]
      terminationGracePeriodSeconds: 0
X
    k rollout status statefulset/s --timeout=90s >/dev/null
    same "s-0 s-1" "$(k get pods -l app=s -o jsonpath='{.items[*].metadata.name}')"
    same s-1 "$(k exec s-1 -- hostname)"
    eventually 30 k exec s-0 -- nslookup "s-1.s.$NS.svc.cluster.local"
}

test_deleting_a_namespace_takes_everything_in_it() {
    local other="$NS-x"
    kubectl create namespace "$other" >/dev/null
    kubectl -n "$other" create deployment web --image=nginx:1.23.3 >/dev/null
    kubectl -n "$other" create configmap c --from-literal=a=1 >/dev/null
    kubectl delete namespace "$other" --timeout=90s >/dev/null
    contains "$(kubectl get namespace "$other" 2>&1 || true)" "not found"
}
