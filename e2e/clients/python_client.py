"""The official Python client against a cluster: lists, watches, writes, applies, logs in by kubeconfig. python_client.py NAMESPACE"""
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

namespace = sys.argv[1]
config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()
name = "from-python"


def config_map(**data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"by": "python"}), data=data)


# A watch that starts before the writes sees each of them, in order.
version = core.list_namespaced_config_map(namespace).metadata.resource_version
seen, failure = [], []


def follow():
    try:
        stream = watch.Watch().stream(
            core.list_namespaced_config_map, namespace, resource_version=version, label_selector="by=python", timeout_seconds=60)
        for event in stream:
            seen.append((event["type"], (event["object"].data or {}).get("step")))
            if event["type"] == "DELETED":
                return
    except Exception as e:  # told by the main thread
        failure.append(e)


follower = threading.Thread(target=follow)
follower.start()
core.create_namespaced_config_map(namespace, config_map(step="1"))
core.patch_namespaced_config_map(name, namespace, {"data": {"step": "2"}})
current = core.read_namespaced_config_map(name, namespace)
current.data["step"] = "3"
core.replace_namespaced_config_map(name, namespace, current)
try:
    core.replace_namespaced_config_map(name, namespace, current)
    raise SystemExit("an object of an old version replaced a newer one")
except ApiException as e:
    assert e.status == 409, e
core.delete_namespaced_config_map(name, namespace)
follower.join(70)
assert not failure, failure
assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("MODIFIED", "3"), ("DELETED", "3")], seen

# Errors carry the server's Status.
try:
    core.read_namespaced_config_map("nobody", namespace)
    raise SystemExit("what is not there was read")
except ApiException as e:
    assert e.status == 404 and '"reason":"NotFound"' in e.body.replace(" ", ""), e.body

# Typed objects of a group, with a list in pages.
for n in range(5):
    labels = {"n": str(n)}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="nginx:1.23.3")]))
    spec = client.V1DeploymentSpec(replicas=0, selector=client.V1LabelSelector(match_labels=labels), template=template)
    apps.create_namespaced_deployment(namespace, client.V1Deployment(metadata=client.V1ObjectMeta(name=f"d{n}"), spec=spec))
names, token = [], None
while True:
    page = apps.list_namespaced_deployment(namespace, limit=2, _continue=token)
    names += [d.metadata.name for d in page.items]
    token = page.metadata._continue
    if not token:
        break
assert names == [f"d{n}" for n in range(5)], names
apps.delete_collection_namespaced_deployment(namespace)

# The dynamic client works from discovery alone, and applies.
maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}
maps.server_side_apply(body=applied, name=name, namespace=namespace, field_manager="python")
assert maps.get(name=name, namespace=namespace).data.a == "b"
maps.delete(name=name, namespace=namespace)
print("the Python client works")
