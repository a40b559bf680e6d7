// The official JavaScript client against a cluster: lists, watches, informs, writes. javascript_client.mjs NAMESPACE
import assert from 'node:assert';
import * as k8s from '@kubernetes/client-node';

const namespace = process.argv[2];
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const name = 'from-javascript';
const labelSelector = 'by=javascript';

// An informer that starts before the writes hears of each of them, in order.
const heard = [];
let done;
const finished = new Promise((resolve, reject) => {
  done = resolve;
  setTimeout(() => reject(new Error(`only heard ${JSON.stringify(heard)}`)), 60_000).unref();
});
const list = () => core.listNamespacedConfigMap({ namespace, labelSelector });
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, labelSelector);
for (const verb of ['add', 'update', 'delete']) {
  informer.on(verb, (object) => {
    heard.push([verb, object.data?.step]);
    if (verb === 'delete') done();
  });
}
await informer.start();

const metadata = { name, labels: { by: 'javascript' } };
await core.createNamespacedConfigMap({ namespace, body: { metadata, data: { step: '1' } } });
const current = await core.readNamespacedConfigMap({ namespace, name });
current.data.step = '2';
await core.replaceNamespacedConfigMap({ namespace, name, body: current });
await assert.rejects(core.replaceNamespacedConfigMap({ namespace, name, body: current }), { code: 409 });
await core.deleteNamespacedConfigMap({ namespace, name });
await finished;
await informer.stop();
assert.deepStrictEqual(heard, [['add', '1'], ['update', '2'], ['delete', '2']]);

// Objects of any kind, found through discovery, applied by the server.
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const wanted = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { a: 'b' } };
const applied = await objects.patch(wanted, undefined, undefined, 'javascript', true, k8s.PatchStrategy.ServerSideApply);
assert.strictEqual(applied.data.a, 'b');
await objects.delete(wanted);
await assert.rejects(objects.read(wanted), { code: 404 });
console.log('the JavaScript client works');
process.exit(0);
