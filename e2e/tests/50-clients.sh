# Clients that users have: kubectl of several versions, helm, the official clients of Python and JavaScript. e2e/clients/install.sh
# has put them where $CLIENTS says.

# kubectl's versions, old to new: the one installed with the others that lie beside it, and those from packages.
kubectls() {
    local real
    real=$(readlink -f "$(command -v kubectl)")
    ls "$CLIENTS"/bin/kubectl-* "$real".1.* 2>/dev/null || true
    echo "$real"
}

# The oldest, the newest and the one of our own version do all that users do.
test_kubectl_old_and_new_does_all_that_users_do() {
    local oldest
    oldest=$(kubectls | grep -E 'kubectl\.1\.[0-9]+$' | sort -V | head -n 1)
    for kubectl in $oldest "$CLIENTS/bin/kubectl-1.35"; do
        "$ROOT/e2e/clients/kubectl.sh" "$kubectl" "$NS"
        k delete pods,serviceaccounts,roles,rolebindings,configmaps --all --wait=true --grace-period=1 >/dev/null 2>&1
        eventually 20 k get serviceaccount default >/dev/null
    done
}

# Every version reads, explains, writes and deletes.
test_every_kubectl_reads_and_writes() {
    local kubectl
    for kubectl in $(kubectls); do
        echo "$kubectl"
        "$kubectl" -n "$NS" api-resources >/dev/null
        contains "$("$kubectl" explain pod.spec.containers)" "containers"
        "$kubectl" -n "$NS" create deployment d --image=nginx:1.23.3 --replicas=0 >/dev/null
        "$kubectl" -n "$NS" get deployment d -o yaml | "$kubectl" -n "$NS" apply --server-side --force-conflicts -f - >/dev/null 2>&1 ||
            "$kubectl" -n "$NS" annotate deployment d a=b >/dev/null
        "$kubectl" -n "$NS" scale deployment d --replicas=1 >/dev/null
        "$kubectl" -n "$NS" wait --for=condition=Available deployment/d --timeout=60s >/dev/null
        contains "$("$kubectl" -n "$NS" get deployments)" "1/1"
        "$kubectl" -n "$NS" delete deployment d --wait=true >/dev/null
    done
}

test_helm_installs_upgrades_rolls_back_and_uninstalls() {
    "$ROOT/e2e/clients/helm.sh" "$CLIENTS/bin/helm" "$NS"
}

test_the_python_client_lists_watches_and_writes() {
    PYTHONPATH="$CLIENTS/python" python3 "$ROOT/e2e/clients/python_client.py" "$NS"
}

test_the_javascript_client_lists_watches_and_writes() {
    (cd "$CLIENTS" && node javascript_client.mjs "$NS")
}
