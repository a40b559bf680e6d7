#!/bin/bash
# What users do with kubectl, by the kubectl given: kubectl.sh PATH-TO-KUBECTL NAMESPACE
# Needs a cluster whose nodes run pods. Ends at the first thing that is not as users expect.
set -eu
kubectl=$1
ns=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
K() { "$kubectl" -n "$ns" "$@"; }
step() { current=$*; }
trap 'echo "failed at: $current"' ERR

step "api-resources and api-versions list every group"
K api-resources -o wide > "$work/resources"
for line in 'pods *po ' 'deployments *deploy ' 'ingresses *ing ' 'customresourcedefinitions *crd,crds '; do
    grep -qE "^$line" "$work/resources"
done
K api-versions | grep -qx apps/v1

step "explain knows every kind and its fields"
K api-resources --no-headers | awk '{print $1, $(NF-2)}' > "$work/names"
while read -r name version; do
    K explain "$name" --api-version="$version" > "$work/explain" 2>&1 < /dev/null || { cat "$work/explain"; echo "no explanation of $name"; exit 1; }
    grep -q 'KIND:' "$work/explain"
    ! grep -q '<empty>' "$work/explain" || { cat "$work/explain"; echo "nothing is said of $name"; exit 1; }
done < "$work/names"
contains "$(K explain pod.spec.containers.resources.limits)" Quantity
contains "$(K explain deployment --recursive)" "terminationGracePeriodSeconds"
K explain crd.spec.versions.schema.openAPIV3Schema > /dev/null
for field in pod.spec.containers deployment.spec.strategy crd.spec.names; do
    K explain "$field" > "$work/explain"
    ! grep -E '<empty>|<no description>' "$work/explain" || { cat "$work/explain"; echo "not all is said of $field"; exit 1; }
done

step "apply creates, says unchanged, and changes"
cat > "$work/config.yaml" <<Y
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: demo}}
data: {color: red, size: "1"}
Y
contains "$(K apply -f "$work/config.yaml")" created
contains "$(K apply -f "$work/config.yaml")" unchanged
sed -i 's/red/blue/; s/, size: "1"//' "$work/config.yaml"
code=0; K diff -f "$work/config.yaml" > "$work/diff" || code=$?
same 1 "$code"
contains "$(cat "$work/diff")" "+  color: blue"
contains "$(K apply -f "$work/config.yaml")" configured
same '{"color":"blue"}' "$(K get configmap settings -o jsonpath='{.data}')"
K diff -f "$work/config.yaml" > /dev/null

step "apply --server-side owns fields and tells of conflicts"
K apply --server-side --force-conflicts -f "$work/config.yaml" > /dev/null
sed 's/blue/green/' "$work/config.yaml" | { ! K apply --server-side --field-manager=other -f - 2> "$work/conflict"; }
contains "$(cat "$work/conflict")" "conflict"
sed 's/blue/green/' "$work/config.yaml" | K apply --server-side --field-manager=other --force-conflicts -f - > /dev/null
same green "$(K get configmap settings -o jsonpath='{.data.color}')"

step "apply --prune takes away what is no longer in the files"
mkdir "$work/set"
for n in one two; do
    K create configmap "$n" --from-literal=k=v --dry-run=client -o yaml > "$work/set/$n.yaml"
    sed -i 's/^metadata:/metadata:\n  labels: {set: s}/' "$work/set/$n.yaml"
done
K apply --prune -l set=s --prune-allowlist=core/v1/ConfigMap -f "$work/set" > /dev/null
rm "$work/set/two.yaml"
contains "$(K apply --prune -l set=s --prune-allowlist=core/v1/ConfigMap -f "$work/set")" "configmap/two pruned"

step "the forms of patch, label, annotate, replace, edit"
K patch configmap settings --type merge -p '{"data":{"size":"2"}}' > /dev/null
K patch configmap settings --type json -p '[{"op":"remove","path":"/data/size"}]' > /dev/null
K label configmap settings tier=back --overwrite > /dev/null
K annotate configmap settings note=x > /dev/null
K get configmap settings -o yaml | sed 's/color: green/color: black/' | K replace -f - > /dev/null
EDITOR="sed -i s/black/white/" K edit configmap settings > /dev/null
same white "$(K get configmap settings -o jsonpath='{.data.color}')"
same settings "$(K get configmap -l tier=back -o jsonpath='{.items[*].metadata.name}')"

step "bad input is refused with its reason"
{ ! K create -f - 2> "$work/error"; } <<Y
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: i}]}}}
Y
contains "$(cat "$work/error")" "selector"
{ ! K apply -f - 2> "$work/error"; } <<Y
apiVersion: v1
kind: ConfigMap
metadata: {name: bad}
dta: {a: b}
Y
contains "$(cat "$work/error")" 'unknown field "dta"'

step "auth can-i, whoami and impersonation"
same yes "$(K auth can-i create pods)"
K create serviceaccount reader > /dev/null
K create role reader --verb=get,list --resource=pods > /dev/null
K create rolebinding reader --role=reader --serviceaccount="$ns:reader" > /dev/null
same yes "$(K auth can-i list pods --as="system:serviceaccount:$ns:reader")"
same no "$(K auth can-i delete pods --as="system:serviceaccount:$ns:reader" || true)"
contains "$(K auth can-i --list --as="system:serviceaccount:$ns:reader")" "pods"
K auth reconcile -f <(K get role reader -o yaml) > /dev/null

step "create token gives a token that works"
token=$(K create token reader --duration=10m)
server=$(K config view --minify -o jsonpath='{.clusters[0].cluster.server}')
K config view --minify --raw --flatten -o jsonpath='{.clusters[0].cluster.certificate-authority-data}' | base64 -d > "$work/ca.crt"
ask() { "$kubectl" --kubeconfig=/dev/null --server="$server" --certificate-authority="$work/ca.crt" --token="$token" -n "$ns" "$@"; }
ask get pods > /dev/null 2>&1
{ ! ask get secrets > /dev/null 2> "$work/error"; }
contains "$(cat "$work/error")" "forbidden"

step "certificate approve leads to a certificate"
openssl req -new -newkey rsa:2048 -nodes -keyout "$work/key" -subj "/CN=jane" -out "$work/csr" 2> /dev/null
csr="jane-$ns"
K create -f - > /dev/null <<Y
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: $csr}
spec: {request: $(base64 -w0 < "$work/csr"), signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}
Y
K certificate approve "$csr" > /dev/null
eventually 20 bash -c "'$kubectl' get csr $csr -o jsonpath='{.status.certificate}' | grep -q ."
K delete csr "$csr" > /dev/null

step "a deployment is created, waited for, scaled, exposed, rolled"
K create deployment web --image=nginx:1.23.3 --replicas=1 > /dev/null
K wait --for=condition=Available deployment/web --timeout=60s > /dev/null
K scale deployment web --replicas=2 > /dev/null
K wait --for=jsonpath='{.status.readyReplicas}'=2 deployment/web --timeout=60s > /dev/null
K expose deployment web --port=80 > /dev/null
K rollout restart deployment/web > /dev/null
K rollout status deployment/web --timeout=90s > /dev/null
contains "$(K rollout history deployment/web)" REVISION
K set env deployment/web A=b > /dev/null
K rollout undo deployment/web > /dev/null
K autoscale deployment web --max=3 > /dev/null
contains "$(K get hpa web)" web
K describe deployment web | grep -q StrategyType
contains "$(K get all)" "deployment.apps/web"

step "run, exec, logs, cp, debug, delete"
K run box --image=busybox:1.36 --image-pull-policy=IfNotPresent --restart=Never --command -- sh -c 'echo hello; sleep 600' > /dev/null
K wait --for=condition=Ready pod/box --timeout=60s > /dev/null
same hello "$(K logs box)"
same "a b" "$(K exec box -- echo a b)"
echo content > "$work/file"
K cp "$work/file" box:/tmp/file
same content "$(K exec box -- cat /tmp/file)"
K debug box --image=busybox:1.36 --image-pull-policy=IfNotPresent -c look --target=box -- sh -c 'sleep 60' > /dev/null 2>&1
eventually 30 bash -c "'$kubectl' -n $ns get pod box -o jsonpath='{.status.ephemeralContainerStatuses[0].state.running}' | grep -q startedAt"
contains "$(K events 2>/dev/null || K get events)" "Started"

step "cordon, drain and uncordon a node"
node=$(K get pod box -o jsonpath='{.spec.nodeName}')
K cordon "$node" > /dev/null
K uncordon "$node" > /dev/null
K drain "$node" --pod-selector=run=box --force --ignore-daemonsets --delete-emptydir-data --grace-period=1 --timeout=60s > /dev/null 2>&1
K uncordon "$node" > /dev/null
{ ! K get pod box > /dev/null 2>&1; }

step "wait --for=delete and delete by selector"
K delete deployment/web service/web hpa/web --wait=false > /dev/null
K wait --for=delete deployment/web --timeout=60s > /dev/null
K delete configmap -l app=demo > /dev/null
K delete configmap -l set=s > /dev/null
echo "kubectl $("$kubectl" version --client 2>/dev/null | grep -oE 'v1\.[0-9]+\.[0-9]+' | head -1) works"
