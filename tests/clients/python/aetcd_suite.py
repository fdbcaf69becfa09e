"""The client `aetcd` for Python against one member."""

import asyncio
import io
import time

import aetcd
from aetcd import rpc
from aetcd.exceptions import ClientError, ConnectionFailedError, DuplicateLeaseError, RevisionCompactedError, WatchTimeoutError

from suite import PATIENCE, address, equal, server, wanted


def connect(**options):
    host, port = address()
    return aetcd.Client(host=host, port=port, timeout=PATIENCE, **options)


async def refused(error, call):
    try:
        await call
    except error as raised:
        return raised
    raise AssertionError(f"no {error.__name__}")


async def until_served(call):
    """Calls until the server, which ended, answers again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await call()
        except ConnectionFailedError:
            assert time.monotonic() < end, f"no connection within {PATIENCE} s"
            await asyncio.sleep(0.05)


async def ordered(order):
    # The loop goes on: streams see their end when it comes.
    await asyncio.to_thread(server, order)


async def kv(c):
    await c.put(b"kv/a", b"1")
    equal((await c.put(b"kv/a", b"2", prev_kv=True)).prev_kv.value, b"1")
    got = await c.get(b"kv/a")
    equal((got.value, got.version), (b"2", 2))
    equal(await c.get(b"kv/none"), None)
    for name in (b"b", b"c", b"d"):
        await c.put(b"kv/" + name, name)
    descending = await c.get_prefix(b"kv/", sort_order="descend", sort_target="key")
    equal([kv.value for kv in descending], [b"d", b"c", b"b", b"2"])
    equal(len(list(await c.get_range(b"kv/b", b"kv/d"))), 2)
    assert await c.replace(b"kv/a", b"2", b"3")
    assert not await c.replace(b"kv/a", b"2", b"4")
    equal((await c.delete(b"kv/a", prev_kv=True)).prev_kv.value, b"3")
    equal((await c.delete_prefix(b"kv/")).deleted, 3)
    await refused(ClientError, c.put(b"", b"x"))
    revision = got.header.revision
    await c.compact(revision)
    await refused(ClientError, c.compact(revision))
    await c.defragment()
    await c.status()
    equal(len([member async for member in c.members()]), 1)
    equal([alarm async for alarm in c.list_alarms()], [])
    assert await c.hash()
    backup = io.BytesIO()
    await c.put(b"kv/kept", b"x" * 100_000)
    await c.snapshot(backup)
    assert b"x" * 100_000 in backup.getvalue()


async def txn(c):
    t = c.transactions
    done, answers = await c.transaction(
        compare=[t.version(b"txn/a") == 0], success=[t.put(b"txn/a", b"1"), t.get(b"txn/a")], failure=[]
    )
    equal((done, answers[1][0][0]), (True, b"1"))
    done, answers = await c.transaction(
        compare=[t.value(b"txn/a") == b"2"],
        success=[],
        failure=[t.txn([t.mod(b"txn/a") > 0], [t.delete(b"txn/a")], []), t.get(b"txn/a")],
    )
    equal((done, answers[0].response_txn.succeeded, answers[1]), (False, True, []))


async def watch(c):
    first = await c.put(b"watch/a", b"1")
    await c.put(b"watch/a", b"2")
    every = await c.watch_prefix(b"watch/", start_revision=first.header.revision, prev_kv=True)
    deletes = await c.watch_prefix(b"watch/", kind=aetcd.EventKind.DELETE)
    await c.delete(b"watch/a")
    events = aiter(every)
    seen = [await anext(events) for _ in range(3)]
    equal(
        [(e.kind, e.kv.value, e.prev_kv.value if e.prev_kv else None) for e in seen],
        [
            (aetcd.EventKind.PUT, b"1", b""),
            (aetcd.EventKind.PUT, b"2", b"1"),
            (aetcd.EventKind.DELETE, b"", b"2"),
        ],
    )
    equal((await anext(aiter(deletes))).kv.key, b"watch/a")
    await deletes.cancel()
    await refused(WatchTimeoutError, c.watch_once(b"watch/quiet", timeout=1))

    # The stream ends with the server; the watcher goes on from the revision after the last one seen.
    last = seen[-1].kv.mod_revision
    for order in ("restart", "kill"):
        await ordered(order)
        await refused(ClientError, anext(events))
        await until_served(lambda: c.put(b"watch/" + order.encode(), b"x"))
        events = aiter(await c.watch_prefix(b"watch/", start_revision=last + 1))
        event = await anext(events)
        equal((event.kv.key, event.kv.value), (b"watch/" + order.encode(), b"x"))
        last = event.kv.mod_revision

    await c.compact(last)
    history = aiter(await c.watch(b"watch/a", start_revision=last - 1))
    equal((await refused(RevisionCompactedError, anext(history))).compacted_revision, last)


async def lease(c):
    short, kept = await c.lease(5), await c.lease(60)
    await c.put(b"lease/short", b"1", lease=short)
    await c.put(b"lease/kept", b"1", lease=kept)
    equal((await c.get(b"lease/short")).lease, short.id)
    equal((await short.granted_ttl(), list(await short.keys())), (5, [b"lease/short"]))
    gone = aiter(await c.watch(b"lease/short"))
    equal((await kept.refresh()).TTL, 60)
    equal((await anext(gone)).kind, aetcd.EventKind.DELETE)
    equal(await short.remaining_ttl(), -1)
    await ordered("kill")
    await until_served(lambda: c.put(b"lease/other", b"1"))
    equal((await kept.refresh()).TTL, 60)
    await kept.revoke()
    equal(await c.get(b"lease/kept"), None)
    await refused(ClientError, c.put(b"lease/kept", b"1", lease=kept))
    own = await c.lease(60, lease_id=4711)
    equal(own.id, 4711)
    await refused(DuplicateLeaseError, c.lease(60, lease_id=4711))
    await own.revoke()


async def lock(c):
    most = holders = taken = 0

    async def work():
        nonlocal most, holders, taken
        async with connect() as own:
            for _ in range(4):
                held = own.lock(b"lock/suite", ttl=30)
                assert await held.acquire(timeout=PATIENCE)
                holders += 1
                most, taken = max(most, holders), taken + 1
                assert await held.is_acquired()
                holders -= 1
                assert await held.release()

    await asyncio.gather(*(work() for _ in range(3)))
    equal((most, taken), (1, 12))

    # One that is never released ends with its lease, also when the server ended meanwhile.
    orphan, heir = c.lock(b"lock/orphan", ttl=5), c.lock(b"lock/orphan", ttl=30)
    assert await orphan.acquire()
    assert not await heir.acquire(timeout=0)
    await ordered("kill")
    await until_served(lambda: c.put(b"lock/other", b"1"))
    assert await heir.acquire(timeout=PATIENCE)
    assert await heir.release()


async def auth(c):
    await c.connect()
    calls = rpc.AuthStub(c.channel)
    await calls.UserAdd(rpc.AuthUserAddRequest(name="root", password="of all"))
    await calls.UserAdd(rpc.AuthUserAddRequest(name="ann", password="ann's"))
    await calls.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
    await calls.RoleAdd(rpc.AuthRoleAddRequest(name="own"))
    grant = rpc.AuthRoleGrantPermissionRequest(name="own")
    grant.perm.permType, grant.perm.key, grant.perm.range_end = 2, b"own/", b"own0"
    await calls.RoleGrantPermission(grant)
    await calls.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    await calls.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="ann", role="own"))
    await calls.AuthEnable(rpc.AuthEnableRequest())

    await refused(ClientError, c.get(b"own/a"))
    await refused(ClientError, connect(username="ann", password="wrong").connect())
    for order in (None, "kill"):
        if order:
            # Tokens end with it.
            await ordered(order)
        ann, root = connect(username="ann", password="ann's"), connect(username="root", password="of all")
        await until_served(ann.connect)
        await until_served(root.connect)
        await root.put(b"other", b"1")
        await ann.put(b"own/a", b"1")
        equal((await ann.get(b"own/a")).value, b"1")
        said = await refused(ClientError, ann.put(b"other", b"1"))
        equal(str(said), "etcdserver: permission denied")
        events = aiter(await ann.watch(b"own/b"))
        held = await ann.lease(30)
        await root.put(b"own/b", b"1", lease=held)
        equal((await anext(events)).kv.value, b"1")
        await held.revoke()
        await ann.close()
        if order:
            await rpc.AuthStub(root.channel).AuthDisable(rpc.AuthDisableRequest(), metadata=root.metadata)
        await root.close()
    equal((await c.get(b"other")).value, b"1")


async def main():
    for part in wanted([kv, txn, watch, lease, lock, auth]):
        async with asyncio.timeout(10 * PATIENCE), connect() as c:
            await part(c)


asyncio.run(main())
