// The npm client `etcd3` against one member. See ../../clients.rs for how it is called and what it says.
'use strict';

const assert = require('assert/strict');
const { once } = require('events');
const readline = require('readline');
const { setTimeout: pause } = require('timers/promises');
const etcd3 = require('etcd3');

// Milliseconds that anything may take that is meant to happen.
const PATIENCE = 30_000;

const [address, ...wanted] = process.argv.slice(2);
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const connect = (options = {}) => new etcd3.Etcd3({ hosts: `http://${address}`, ...options });

// Has the server end and start again on the same address: `restart` in order, `kill` at once.
async function server(order) {
  console.log(order);
  assert.equal((await answers.next()).done, false, 'nobody answers');
}

async function until(what, call) {
  for (const end = Date.now() + PATIENCE; !(await call()); await pause(50)) {
    assert(Date.now() < end, `not within ${PATIENCE} ms: ${what}`);
  }
}

// Calls until the server, which ended, answers again.
async function served(call) {
  for (const end = Date.now() + PATIENCE; ; await pause(50)) {
    try {
      return await call();
    } catch (error) {
      if (!/ECONNREFUSED|ECONNRESET|UNAVAILABLE|EPIPE|Connection dropped|GOAWAY/i.test(error.message) || Date.now() > end) throw error;
    }
  }
}

async function kv(c) {
  await c.put('kv/a').value('1');
  assert.equal((await c.put('kv/a').value('2').getPrevious()).value.toString(), '1');
  assert.equal(await c.get('kv/a').number(), 2);
  assert.equal(await c.get('kv/none').string(), null);
  for (const name of 'bcd') await c.put(`kv/${name}`).value(name);
  const all = c.getAll().prefix('kv/');
  assert.deepEqual(await all.strings(), { 'kv/a': '2', 'kv/b': 'b', 'kv/c': 'c', 'kv/d': 'd' });
  assert.deepEqual(await c.getAll().prefix('kv/').sort('Key', 'Descend').limit(2).keys(), ['kv/d', 'kv/c']);
  assert.equal(await c.getAll().inRange({ start: 'kv/b', end: 'kv/d' }).count(), 2);
  const { header } = await c.get('kv/a').exec();
  await c.delete().key('kv/b');
  assert.equal(await c.get('kv/b').revision(header.revision).string(), 'b');
  await assert.rejects(c.put('').value('x').exec(), /key is not provided/);
  const inside = c.namespace('space/');
  await inside.put('a').value('inside');
  assert.equal(await c.get('space/a').string(), 'inside');
  assert.equal((await c.delete().prefix('kv/').getPrevious()).length, 3);

  await c.kv.compact({ revision: header.revision });
  await assert.rejects(c.get('kv/b').revision(Number(header.revision) - 1).exec(), /required revision has been compacted/);
  assert.equal((await c.maintenance.status()).leader, header.member_id);
  assert.equal((await c.cluster.memberList({})).members.length, 1);
  await c.maintenance.defragment();
  assert.notEqual((await c.maintenance.hash()).hash, 0);
}

async function txn(c) {
  const create = value => c.if('txn/a', 'Create', '==', 0)
    .then(c.put('txn/a').value(value)).else(c.get('txn/a')).commit();
  assert.equal((await create('1')).succeeded, true);
  const again = await create('2');
  assert.equal(again.succeeded, false);
  assert.equal(again.responses[0].response_range.kvs[0].value.toString(), '1');
  const both = await c.if('txn/a', 'Value', '==', '1').and('txn/a', 'Version', '<', 2)
    .then(c.delete().key('txn/a'), c.put('txn/b').value('1')).commit();
  assert.equal(both.responses[0].response_delete_range.deleted, '1');

  await c.put('txn/counter').value(0);
  await Promise.all([...Array(4)].map(async () => {
    for (let i = 0; i < 5; i++) {
      await c.stm({ retries: 100 }).transact(async tx => {
        const counter = await tx.get('txn/counter').number();
        await tx.put('txn/counter').value(counter + 1);
      });
    }
  }));
  assert.equal(await c.get('txn/counter').number(), 20);
}

async function watch(c) {
  const first = await c.put('watch/a').value('1');
  await c.put('watch/a').value('2');
  const said = [];
  const watcher = await c.watch().prefix('watch/').withPreviousKV().startRevision(first.header.revision).create();
  watcher.on('put', (kv, before) => said.push(`put ${kv.key}=${kv.value} (${before?.value ?? 'none'})`));
  watcher.on('delete', (kv, before) => said.push(`delete ${kv.key} (${before?.value})`));
  const deletes = await c.watch().prefix('watch/').only('delete').create();
  const [deleted] = await Promise.all([once(deletes, 'delete'), c.delete().key('watch/a')]);
  assert.equal(deleted[0].key.toString(), 'watch/a');
  await deletes.cancel();
  await until('three events', () => said.length === 3);
  assert.deepEqual(said.splice(0), ['put watch/a=1 (none)', 'put watch/a=2 (1)', 'delete watch/a (2)']);

  // The watcher resumes by itself: nothing is lost or seen twice.
  let expected = 0;
  for (const order of ['restart', 'kill']) {
    const lost = once(watcher, 'disconnected');
    await server(order);
    await lost;
    for (let i = 0; i < 5; i++) await served(() => c.put('watch/a').value(expected + i).exec());
    await until('what was put after the restart', () => said.length >= 5);
    assert.deepEqual(said.splice(0).map(text => text.match(/=(\d+)/)[1]), [0, 1, 2, 3, 4].map(i => String(expected + i)));
    expected += 5;
  }
  await watcher.cancel();

  const { header } = await c.put('watch/a').value('last');
  await c.kv.compact({ revision: header.revision });
  const history = await c.watch().key('watch/a').startRevision(first.header.revision).create();
  const [error] = await once(history, 'error');
  assert.match(error.message, /Watcher canceled/);
}

async function lease(c) {
  const short = c.lease(5, { autoKeepAlive: false });
  const kept = c.lease(6);
  const id = await kept.grant();
  await short.put('lease/short').value('1');
  await kept.put('lease/kept').value('1');
  assert.equal((await c.get('lease/kept').exec()).kvs[0].lease, id);
  const gone = await c.watch().key('lease/short').create();
  await once(gone, 'delete');
  await gone.cancel();
  await assert.rejects(short.keepaliveOnce(), etcd3.EtcdLeaseInvalidError);
  await server('kill');
  await served(() => kept.keepaliveOnce());
  // It would have ended by now.
  await pause(7000);
  assert.equal(await c.get('lease/kept').string(), '1');
  const held = await c.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.deepEqual([held.grantedTTL, held.keys.map(String)], ['6', ['lease/kept']]);
  assert.equal((await c.leaseClient.leaseLeases()).leases.length, 1);
  await kept.revoke();
  assert.equal(await c.get('lease/kept').string(), null);
  await assert.rejects(c.put('lease/kept').value('1').lease(id).exec(), etcd3.EtcdLeaseInvalidError);
}

async function lock(c) {
  let holders = 0, taken = 0;
  await Promise.all([...Array(3)].map(async () => {
    for (let got = 0; got < 3;) {
      try {
        await c.lock('lock/suite').ttl(30).do(async () => {
          assert.equal(++holders, 1);
          taken++, got++;
          await pause(5);
          holders--;
        });
      } catch (error) {
        if (!(error instanceof etcd3.EtcdLockFailedError)) throw error;
        await pause(10);
      }
    }
  }));
  assert.equal(taken, 9);

  const held = await c.lock('lock/held').ttl(30).acquire();
  await server('kill');
  await served(() => c.get('lock/other').string());
  await assert.rejects(c.lock('lock/held').acquire(), etcd3.EtcdLockFailedError);
  await held.release();
  await (await c.lock('lock/held').acquire()).release();

  const election = c.election('election', 30);
  const observer = await election.observe();
  const one = election.campaign('one');
  await one.wait();
  await until('the first leader', () => observer.leader() === 'one');
  const two = election.campaign('two');
  await one.proclaim('one again');
  await until('what the leader said', () => observer.leader() === 'one again');
  await one.resign();
  await two.wait();
  await until('the second leader', () => observer.leader() === 'two');
  assert.equal(await election.leader(), 'two');
  await observer.cancel();
  await two.resign();
}

async function auth(c) {
  await c.role('root').create();
  const own = await c.role('own').create();
  await own.grant({ permission: 'Readwrite', range: c.range({ prefix: 'own/' }) });
  await c.user('root').create('of all').then(user => user.addRole('root'));
  await c.user('ann').create("ann's").then(user => user.addRole('own'));
  await assert.rejects(c.user('ann').create('x'), etcd3.EtcdUserExistsError);
  await c.auth.authEnable();

  const root = connect({ auth: { username: 'root', password: 'of all' } });
  const ann = connect({ auth: { username: 'ann', password: "ann's" } });
  const wrong = connect({ auth: { username: 'ann', password: 'wrong' } });
  await assert.rejects(wrong.get('own/a').string(), etcd3.EtcdAuthenticationFailedError);
  await assert.rejects(c.get('own/a').string(), /user name is empty/);
  for (const order of [null, 'kill']) {
    // Tokens end with the server; the client gets itself others.
    if (order) await server(order);
    await served(() => root.put('other').value('1').exec());
    await served(() => ann.put('own/a').value('1').exec());
    assert.equal(await ann.get('own/a').string(), '1');
    await assert.rejects(ann.get('other').string(), etcd3.EtcdPermissionDeniedError);
    await assert.rejects(ann.put('other').value('2').exec(), etcd3.EtcdPermissionDeniedError);
    const watcher = await ann.watch().prefix('own/').create();
    const [seen] = await Promise.all([once(watcher, 'put'), root.put('own/b').value('2').exec()]);
    assert.equal(seen[0].value.toString(), '2');
    await watcher.cancel();
  }
  assert.deepEqual((await root.getUsers()).map(user => user.name), ['ann', 'root']);
  assert.equal((await root.role('own').permissions())[0].permission, 'Readwrite');
  await root.auth.authDisable();
  assert.equal(await c.get('other').string(), '1');
  for (const client of [root, ann, wrong]) client.close();
}

async function main() {
  const parts = { kv, txn, watch, lease, lock, auth };
  for (const name of wanted) {
    const since = Date.now();
    const c = connect();
    await parts[name](c);
    c.close();
    console.log(`${name} ok, ${((Date.now() - since) / 1000).toFixed(1)} s`);
  }
}

main().then(() => process.exit(0), error => {
  console.error(error);
  process.exit(1);
});
