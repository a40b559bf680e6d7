# What every end-to-end test uses. Sourced, not run.
#
# A test file holds functions named test_*; each runs in a namespace of its own, $NS, with `set -e`, and passes when it
# returns 0. `eventually SECONDS command…` waits for the world to catch up; nothing sleeps for a fixed time.

# Runs a command until it succeeds; fails when SECONDS are over, showing what the last attempt said.
eventually() {
    local limit=$1 deadline=$((SECONDS + $1)) output
    shift
    until output=$("$@" 2>&1); do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "not within $limit s: $*"
            echo "$output" | tail -n 5
            return 1
        fi
        sleep 0.2
    done
}

# Compares, and shows both sides when they differ.
same() {
    [ "$1" = "$2" ] || { echo "expected: $1"; echo "got:      $2"; return 1; }
}

contains() {
    case "$1" in *"$2"*) ;; *) echo "expected to contain: $2"; echo "got: $1" | head -n 20; return 1 ;; esac
}

k() { kubectl -n "$NS" "$@"; }

# A pod that stays, to look at the cluster from inside.
client_pod() {
    k run client --image=busybox:1.36 --image-pull-policy=IfNotPresent --restart=Never --command -- sleep 3600 >/dev/null
    k wait --for=condition=Ready pod/client --timeout=60s >/dev/null
}

from_client() { k exec client -- "$@"; }

# Whether a web server answers the client pod: answers_client HOST [PORT]. (The wget of Debian's busybox crashes.)
answers_client() {
    from_client sh -c "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 $1 ${2:-80}" | grep -q '200 OK'
}

apply() { k apply -f - >/dev/null; }

# A Deployment of nginx: deployment NAME REPLICAS [IMAGE]
deployment() {
    apply <<X
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  replicas: $2
  selector: {matchLabels: {app: $1}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      containers:
      - name: nginx
        image: ${3:-nginx:1.23.3}
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        lifecycle: {preStop: {exec: {command: [sleep, "2"]}}}
X
    k rollout status "deployment/$1" --timeout=90s >/dev/null
}
