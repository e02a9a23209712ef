// A service with eureka-js-client: registers, waits until it discovers PROBE, leaves when told.
//
// Usage: node node.js REGISTRY_HOST REGISTRY_PORT OWN_PORT
// Prints one word per step: `registered`, `seen HOST:PORT`, `left`.

const { Eureka } = require('eureka-js-client');

const [host, port, own] = process.argv.slice(2);
const quiet = () => {};
const client = new Eureka({
  instance: {
    app: 'interop-node',
    instanceId: `127.0.0.1:interop-node:${own}`,
    hostName: '127.0.0.1',
    ipAddr: '127.0.0.1',
    port: { $: Number(own), '@enabled': true },
    vipAddress: 'interop-node',
    dataCenterInfo: {
      '@class': 'com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo',
      name: 'MyOwn',
    },
    leaseInfo: { renewalIntervalInSecs: 1, durationInSecs: 3 },
  },
  eureka: {
    host,
    port: Number(port),
    servicePath: '/eureka/v2/apps/',
    heartbeatInterval: 1000,
    registryFetchInterval: 500,
    useDelta: true,
  },
  shouldUseDelta: true,
  logger: { debug: quiet, info: quiet, warn: quiet, error: console.error, level: quiet },
});

client.start((error) => {
  if (error) {
    console.error(error);
    process.exit(1);
  }
  console.log('registered');
  const timer = setInterval(() => {
    const [found] = client.getInstancesByAppId('PROBE') || [];
    if (found) {
      clearInterval(timer);
      console.log(`seen ${found.ipAddr}:${found.port.$}`);
    }
  }, 100);
});

process.stdin.once('data', () => {
  client.stop(() => {
    console.log('left');
    process.exit(0);
  });
});
