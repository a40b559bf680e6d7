#!/bin/bash
# A chart's life with helm: helm.sh PATH-TO-HELM NAMESPACE
set -eu
helm=$1
ns=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HELM_CACHE_HOME=$work/cache HELM_CONFIG_HOME=$work/config HELM_DATA_HOME=$work/data
H() { "$helm" -n "$ns" "$@"; }
fail() { echo "$*"; exit 1; }
(cd "$work" && "$helm" create web > /dev/null)
image="--set image.repository=nginx,image.tag=1.23.3,image.pullPolicy=IfNotPresent"
# shellcheck disable=SC2086
H install web "$work/web" $image --wait --timeout 90s > /dev/null
H status web | grep -q 'STATUS: deployed' || fail "not deployed"
[ "$(kubectl -n "$ns" get deployment web -o jsonpath='{.status.readyReplicas}')" = 1 ] || fail "not ready"
# shellcheck disable=SC2086
H upgrade web "$work/web" $image --set replicaCount=2 --wait --timeout 90s > /dev/null
[ "$(kubectl -n "$ns" get deployment web -o jsonpath='{.spec.replicas}')" = 2 ] || fail "not upgraded"
H rollback web 1 --wait --timeout 90s > /dev/null
[ "$(kubectl -n "$ns" get deployment web -o jsonpath='{.spec.replicas}')" = 1 ] || fail "not rolled back"
[ "$(H history web -o json | grep -o '"revision"' | wc -l)" = 3 ] || fail "no history"
H get manifest web | grep -q 'kind: Deployment' || fail "no manifest"
H uninstall web --wait > /dev/null
[ -z "$(kubectl -n "$ns" get deployment web --ignore-not-found -o name)" ] || fail "not uninstalled"
echo "helm $("$helm" version --short) works"
