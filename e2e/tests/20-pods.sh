# Pods, by hand.

test_a_pod_runs_with_its_requests_and_limits_in_its_cgroup() {
    apply <<'X'
apiVersion: v1
kind: Pod
metadata: {name: nginx}
spec:
  containers:
  - name: nginx
    image: nginx:1.23.3
    resources:
      limits: {cpu: 500m, memory: 200Mi}
      requests: {cpu: 250m, memory: 100Mi}
    ports: [{containerPort: 80}]
X
    k wait --for=condition=Ready pod/nginx --timeout=60s >/dev/null
    same Burstable "$(k get pod nginx -o jsonpath='{.status.qosClass}')"
    local uid cgroup
    uid=$(k get pod nginx -o jsonpath='{.metadata.uid}')
    if [ -d /sys/fs/cgroup/memory ]; then
        cgroup=/sys/fs/cgroup/memory/kubepods/burstable/pod$uid
        same 209715200 "$(cat "$cgroup/memory.limit_in_bytes")"
        same 256 "$(cat "/sys/fs/cgroup/cpu/kubepods/burstable/pod$uid/cpu.shares")"
    else
        cgroup=/sys/fs/cgroup/kubepods/burstable/pod$uid
        same 209715200 "$(cat "$cgroup/memory.max")"
        same "50000 100000" "$(cat "$cgroup/cpu.max")"
    fi
    contains "$(k describe pod nginx)" "Started"
    k delete pod nginx --wait >/dev/null
    [ ! -e "$cgroup" ]
}

test_logs_exec_attach_cp_and_port_forward_work() {
    apply <<'X'
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: web, image: "nginx:1.23.3", imagePullPolicy: IfNotPresent}
  - {name: sh, image: "busybox:1.36", imagePullPolicy: IfNotPresent, stdin: true, command: [sh, -c, "echo hello from $POD; cat"], env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}
X
    k wait --for=condition=Ready pod/p --timeout=60s >/dev/null
    same "hello from p" "$(k logs p -c sh)"
    same "uid=0(root) gid=0(root)" "$(k exec p -c sh -- id | cut -d' ' -f1,2)"
    same input "$(echo input | k exec -i p -c sh -- cat)"
    contains "$(k exec p -c sh -- sh -c 'exit 3' 2>&1 || true)" "exit code 3"
    echo attached | timeout 5 kubectl -n "$NS" attach -i p -c sh >/dev/null 2>&1 || true
    eventually 10 sh -c "kubectl -n $NS logs p -c sh | grep -q attached"
    local folder
    folder=$(mktemp -d)
    echo content >"$folder/in"
    k cp "$folder/in" p:/tmp/file -c sh
    k cp p:/tmp/file "$folder/out" -c sh >/dev/null
    same content "$(cat "$folder/out")"
    kubectl -n "$NS" port-forward pod/p 18080:80 >"$folder/forward" 2>&1 &
    local forward=$!
    eventually 10 curl -sf -o /dev/null http://127.0.0.1:18080/
    contains "$(curl -s http://127.0.0.1:18080/)" "Welcome to nginx"
    kill "$forward"
    rm -r "$folder"
}

test_init_containers_run_in_order_and_failing_ones_back_off() {
    apply <<'X'
apiVersion: v1
kind: Pod
metadata: {name: init}
spec:
  restartPolicy: Never
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - {name: one, image: "busybox:1.36", command: [sh, -c, "echo 1 >> /v/order"], volumeMounts: [{name: v, mountPath: /v}]}
  - {name: two, image: "busybox:1.36", command: [sh, -c, "echo 2 >> /v/order"], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: main, image: "busybox:1.36", command: [cat, /v/order], volumeMounts: [{name: v, mountPath: /v}]}
X
    k wait --for=jsonpath='{.status.phase}'=Succeeded pod/init --timeout=60s >/dev/null
    same "1 2" "$(k logs init | tr '\n' ' ' | sed 's/ $//')"
}

test_config_maps_and_secrets_reach_pods_and_updates_appear() {
    k create configmap conf --from-literal=key=one >/dev/null
    k create secret generic db --from-literal=user=backend >/dev/null
    apply <<'X'
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  containers:
  - name: c
    image: busybox:1.36
    command: [sh, -c, "echo $USER_NAME; sleep 3600"]
    env: [{name: USER_NAME, valueFrom: {secretKeyRef: {name: db, key: user}}}]
    volumeMounts: [{name: conf, mountPath: /conf}, {name: meta, mountPath: /meta}]
  volumes:
  - {name: conf, configMap: {name: conf}}
  - {name: meta, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
X
    k wait --for=condition=Ready pod/p --timeout=60s >/dev/null
    same backend "$(k logs p)"
    same one "$(k exec p -- cat /conf/key)"
    contains "$(k exec p -- cat /meta/labels)" 'app="p"'
    k create configmap conf --from-literal=key=two --dry-run=client -o yaml | k apply -f - >/dev/null 2>&1
    eventually 90 sh -c "[ \"\$(kubectl -n $NS exec p -- cat /conf/key)\" = two ]"
}

test_liveness_restarts_and_readiness_withholds() {
    apply <<'X'
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.36
    command: [sh, -c, "touch /tmp/alive; sleep 3600"]
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1}
X
    eventually 60 sh -c "[ \"\$(kubectl -n $NS get pod p -o jsonpath='{.status.phase}')\" = Running ]"
    same false "$(k get pod p -o jsonpath='{.status.containerStatuses[0].ready}')"
    k exec p -- touch /tmp/ready
    k wait --for=condition=Ready pod/p --timeout=30s >/dev/null
    k exec p -- rm /tmp/alive
    eventually 60 sh -c "[ \"\$(kubectl -n $NS get pod p -o jsonpath='{.status.containerStatuses[0].restartCount}')\" -ge 1 ]"
}

# The users' own objects, where they are at hand, with images of this machine under the names that they use.
test_the_users_manifests_run_as_they_are() {
    local folder=../shared/manifests namespace=bli-deployment
    [ -e "$folder/nginx.yaml" ] || return 0
    k apply -f "$folder/nginx.yaml" >/dev/null
    k wait --for=condition=Ready pod/nginx --timeout=60s >/dev/null
    local ctr="ctr -a /run/ferrokube/containerd/containerd.sock -n k8s.io"
    for pair in 30-memcache.yaml=memcached:1.6 40-backend.yaml=nginx:1.23.3; do
        local name
        name=$(sed -nE 's/^ *image: *//p' "$folder/${pair%%=*}")
        $ctr images tag --force "docker.io/library/${pair#*=}" "$name" >/dev/null
    done
    # shellcheck disable=SC2064
    trap "kubectl delete namespace $namespace --wait=false >/dev/null 2>&1" EXIT
    for file in 10-namespace 20-secrets 30-memcache 50-ingress; do
        kubectl apply -f "$folder/$file.yaml" >/dev/null
    done
    kubectl -n $namespace rollout status deployment/memcache-deployment --timeout=90s >/dev/null
    # Two replicas of everything ask for more than a small machine has.
    kubectl -n $namespace scale deployment/memcache-deployment --replicas=1 >/dev/null
    sed 's/replicas: 2/replicas: 1/' "$folder/40-backend.yaml" | kubectl apply -f - >/dev/null
    kubectl -n $namespace rollout status deployment/backend-deployment --timeout=90s >/dev/null
    same backend "$(kubectl -n $namespace exec deploy/backend-deployment -- sh -c 'echo $DB_USER')"
    contains "$(kubectl -n $namespace get ingress nginx-https)" ss.bli.cn
    contains "$(kubectl -n $namespace get endpointslices -l kubernetes.io/service-name=memcache-service -o jsonpath='{.items[0].ports[0].port}')" 8911
}

test_mounts_of_the_node_reach_a_pod_that_asks_for_them() {
    local folder
    folder=$(mktemp -d)
    trap "umount $folder/later; rm -r $folder" EXIT
    apply <<X
apiVersion: v1
kind: Pod
metadata: {name: sees}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: sees
    image: busybox:1.36
    imagePullPolicy: IfNotPresent
    command: [sleep, "3600"]
    volumeMounts: [{name: here, mountPath: /here, mountPropagation: HostToContainer}]
  volumes: [{name: here, hostPath: {path: $folder, type: DirectoryOrCreate}}]
X
    k wait --for=condition=Ready pod/sees --timeout=60s >/dev/null
    mkdir -p "$folder/later"
    mount -t tmpfs none "$folder/later"
    touch "$folder/later/file"
    k exec sees -- ls /here/later/file >/dev/null
}
