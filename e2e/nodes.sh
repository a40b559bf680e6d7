# A cluster of several nodes, each in namespaces of its own on this machine. Sourced by e2e/run, after `deploy/up --nodes 3`; every
# function runs as those of e2e/tests do.

node() { "$ROOT/deploy/node" "$@"; }

# Whether a Node's condition Ready has a status: ready_is NAME True|Unknown|False
ready_is() {
    same "$2" "$(kubectl get node "$1" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}')"
}

nodes_of() { k get pods -l "app=$1" -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | xargs; }

test_nodes_join_by_token_and_certificate_request() {
    same 3 "$(kubectl get nodes --no-headers | grep -c ' Ready ')"
    same 2 "$(kubectl get csr --no-headers | grep -c 'kube-apiserver-client-kubelet.*system:bootstrap:.*Approved,Issued')"
    same "" "$(kubectl -n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token -o name)"
    contains "$(kubectl get node -l node-role.kubernetes.io/control-plane -o jsonpath='{.items[*].spec.taints[*].effect}')" NoSchedule
}

test_pods_of_all_nodes_reach_each_other_and_services() {
    apply <<X
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      tolerations: [{operator: Exists}]
      containers: [{name: nginx, image: "nginx:1.24", imagePullPolicy: IfNotPresent}]
X
    k rollout status daemonset everywhere --timeout=60s >/dev/null
    same 3 "$(nodes_of everywhere | wc -w)"
    k create service nodeport everywhere --tcp=80 >/dev/null
    client_pod
    local address port
    for address in $(k get pods -l app=everywhere -o jsonpath='{.items[*].status.podIP}') everywhere; do
        eventually 10 answers_client "$address"
    done
    port=$(k get service everywhere -o jsonpath='{.spec.ports[0].nodePort}')
    for address in $(kubectl get nodes -o jsonpath='{.items[*].status.addresses[?(@.type=="InternalIP")].address}'); do
        eventually 10 curl -sf -m 2 -o /dev/null "http://$address:$port/"
    done
    k logs -l app=everywhere --tail=1 >/dev/null
}

test_a_network_policy_holds_across_nodes() {
    deployment web 4
    k rollout status deployment web --timeout=60s >/dev/null
    client_pod
    local addresses address
    addresses=$(k get pods -l app=web -o jsonpath='{.items[*].status.podIP}')
    for address in $addresses; do eventually 10 answers_client "$address"; done
    apply <<X
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {friend: "yes"}}}], ports: [{port: 80}]}]
X
    for address in $addresses; do eventually 10 is_refused "$address"; done
    k label pod client friend=yes >/dev/null
    for address in $addresses; do eventually 10 answers_client "$address"; done
}

is_refused() { ! answers_client "$1"; }

test_anti_affinity_and_spread_use_all_workers() {
    apply <<X
apiVersion: apps/v1
kind: Deployment
metadata: {name: apart}
spec:
  replicas: 2
  selector: {matchLabels: {app: apart}}
  template:
    metadata: {labels: {app: apart}}
    spec:
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}
      containers: [{name: nginx, image: "nginx:1.24", imagePullPolicy: IfNotPresent}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 6
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        nodeTaintsPolicy: Honor
        labelSelector: {matchLabels: {app: spread}}
      containers: [{name: nginx, image: "nginx:1.24", imagePullPolicy: IfNotPresent}]
X
    k rollout status deployment apart --timeout=60s >/dev/null
    k rollout status deployment spread --timeout=60s >/dev/null
    same "worker1 worker2" "$(nodes_of apart)"
    same "3 3" "$(k get pods -l app=spread -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort | uniq -c | awk '{print $1}' | xargs)"
}

test_a_node_that_was_off_comes_back_with_its_pods() {
    deployment web 4
    k rollout status deployment web --timeout=60s >/dev/null
    node stop worker2
    eventually 90 ready_is worker2 Unknown
    contains "$(kubectl get node worker2 -o jsonpath='{.spec.taints[*].key}')" node.kubernetes.io/unreachable
    node start worker2
    eventually 60 ready_is worker2 True
    k rollout status deployment web --timeout=90s >/dev/null
    client_pod
    local address
    for address in $(k get pods -l app=web -o jsonpath='{.items[*].status.podIP}'); do eventually 20 answers_client "$address"; done
}

test_pods_leave_a_node_that_is_cut_off_and_a_stateful_set_waits_for_it() {
    apply <<X
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: only}
spec:
  serviceName: only
  replicas: 2
  selector: {matchLabels: {app: only}}
  template:
    metadata: {labels: {app: only}}
    spec:
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: only}}}
      containers: [{name: nginx, image: "nginx:1.24", imagePullPolicy: IfNotPresent}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: moves}
spec:
  replicas: 4
  selector: {matchLabels: {app: moves}}
  template:
    metadata: {labels: {app: moves}}
    spec:
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers: [{name: nginx, image: "nginx:1.24", imagePullPolicy: IfNotPresent}]
X
    k rollout status statefulset only --timeout=60s >/dev/null
    k rollout status deployment moves --timeout=60s >/dev/null
    local there uid
    there=$(k get pods -l app=only -o jsonpath='{.items[?(@.spec.nodeName=="worker1")].metadata.name}')
    uid=$(k get pod "$there" -o jsonpath='{.metadata.uid}')
    node cut worker1
    eventually 90 ready_is worker1 Unknown
    # The Deployment has its pods elsewhere; the StatefulSet's pod may still run there, so it has no other.
    eventually 60 has_running moves 4 worker2
    same "$uid" "$(k get pod "$there" -o jsonpath='{.metadata.uid}')"
    k get pod "$there" -o jsonpath='{.metadata.deletionTimestamp}' | grep -q .
    node heal worker1
    eventually 60 ready_is worker1 True
    k rollout status statefulset only --timeout=90s >/dev/null
    [ "$uid" != "$(k get pod "$there" -o jsonpath='{.metadata.uid}')" ]
}

# has_running APP COUNT NODE: whether that many pods run there.
has_running() {
    same "$2" "$(k get pods -l "app=$1" --field-selector "status.phase=Running,spec.nodeName=$3" -o json | jq_count)"
}

jq_count() { python3 -c 'import json,sys; print(sum("deletionTimestamp" not in p["metadata"] for p in json.load(sys.stdin)["items"]))'; }

test_a_wrong_token_or_hash_joins_nothing() {
    local token hash join
    join=$("$FERROKUBE" token create --ttl 1h --print-join-command)
    token=$(sed -E 's/.*--token ([a-z0-9.]+).*/\1/' <<<"$join")
    hash=${join##* }
    contains "$(try_join "$token" "sha256:$(printf '0%.0s' $(seq 64))")" "which is none of those given"
    contains "$(try_join "${token%.*}.0000000000000000" "$hash")" "not the one that the cluster signs with"
    contains "$(try_join "$token" "$hash" --node-name worker1)" "that is Ready"
    contains "$(try_join "$token" "$hash" --node-name other)" "Nothing was changed"
    "$FERROKUBE" token delete "$token" >/dev/null
}

# Tries to join from a mount namespace in which this machine is no node: try_join TOKEN HASH [FLAGS…]
try_join() {
    local server token=$1 hash=$2
    shift 2
    server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')
    unshare --mount sh -c 'mount -t tmpfs none /etc/kubernetes; exec "$@"' _ "$FERROKUBE" join "${server#https://}" --token "$token" \
        --discovery-token-ca-cert-hash "$hash" --dry-run "$@" 2>&1 || true
}

test_a_node_is_added_and_removed() {
    node add extra >/dev/null
    eventually 30 ready_is extra True
    node remove extra >/dev/null
    same "" "$(kubectl get nodes -o name | grep extra || true)"
}
