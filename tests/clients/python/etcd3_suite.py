"""The client `etcd3` for Python against one member."""

import io
import threading
import time

import etcd3
import etcd3.watch
import grpc
from etcd3 import etcdrpc, exceptions

from suite import PATIENCE, address, equal, refused, server, until, wanted


def connect():
    host, port = address()
    return etcd3.client(host=host, port=port, timeout=PATIENCE)


def logged_in(user, password):
    """The client logs in by itself with `user=` and `password=`, but then hands its token to gRPC as the credentials of a
    call, which today's gRPC sends over TLS only. As metadata it goes with every call."""
    c = connect()
    request = etcdrpc.AuthenticateRequest(name=user, password=password)
    c.metadata = (("token", etcdrpc.AuthStub(c.channel).Authenticate(request).token),)
    c.watcher = etcd3.watch.Watcher(etcdrpc.WatchStub(c.channel), timeout=PATIENCE, metadata=c.metadata)
    return c


def kv(c):
    c.put("kv/a", "1")
    equal(c.put("kv/a", "2", prev_kv=True).prev_kv.value, b"1")
    value, about = c.get("kv/a")
    equal((value, about.version, about.mod_revision - about.create_revision), (b"2", 2, 1))
    equal(c.get("kv/none"), (None, None))
    for name in "bcd":
        c.put(f"kv/{name}", name)
    equal([v for v, _ in c.get_prefix("kv/", sort_order="descend", sort_target="key")], [b"d", b"c", b"b", b"2"])
    equal([m.key for _, m in c.get_range("kv/b", "kv/d")], [b"kv/b", b"kv/c"])
    equal(len(list(c.get_prefix("kv/", keys_only=True))), 4)
    assert not c.put_if_not_exists("kv/a", "3")
    assert c.replace("kv/a", "2", "3")
    assert not c.replace("kv/a", "2", "4")
    equal(c.delete("kv/a", prev_kv=True, return_response=True).prev_kvs[0].value, b"3")
    equal(c.delete_prefix("kv/").deleted, 3)
    equal(list(c.get_prefix("kv/")), [])
    refused(grpc.RpcError, lambda: c.put("", "x"))

    head = c.get_response("kv/a").header
    c.compact(head.revision)
    refused(grpc.RpcError, lambda: c.compact(head.revision))
    c.defragment()
    equal(c.status().leader.id, head.member_id)
    equal(len(list(c.members)), 1)
    equal(list(c.list_alarms()), [])
    assert c.hash()
    backup = io.BytesIO()
    c.put("kv/kept", "x" * 100_000)
    c.snapshot(backup)
    assert b"x" * 100_000 in backup.getvalue()


def txn(c):
    t = c.transactions
    done, answers = c.transaction(
        compare=[t.version("txn/a") == 0, t.create("txn/none") == 0],
        success=[t.put("txn/a", "1"), t.get("txn/a")],
        failure=[],
    )
    equal((done, answers[1][0][0]), (True, b"1"))
    done, answers = c.transaction(
        compare=[t.value("txn/a") == "2"],
        success=[t.put("txn/a", "never")],
        failure=[t.txn([t.mod("txn/a") > 0], [t.delete("txn/a"), t.put("txn/b", "1")], []), t.get("txn/a")],
    )
    equal((done, answers[0].response_txn.succeeded, answers[1]), (False, True, []))
    equal(c.get("txn/b")[0], b"1")


def watch(c):
    c.put("watch/a", "1")
    _, about = c.get("watch/a")
    c.put("watch/a", "2")
    events, cancel = c.watch_prefix("watch/", start_revision=about.mod_revision, prev_kv=True)
    c.delete("watch/a")
    seen = [next(events) for _ in range(3)]
    equal(
        [(type(e).__name__, e.value, e.prev_value) for e in seen],
        [("PutEvent", b"1", b""), ("PutEvent", b"2", b"1"), ("DeleteEvent", b"", b"2")],
    )
    refused(exceptions.WatchTimedOut, lambda: c.watch_once("watch/quiet", timeout=1))

    # The stream ends with the server; the watcher goes on from the revision after the last one seen.
    last = seen[-1].mod_revision
    for order in ("restart", "kill"):
        server(order)
        refused(exceptions.Etcd3Exception, lambda: next(events))
        until(lambda: written(c, order))
        events, cancel = c.watch_prefix("watch/", start_revision=last + 1)
        event = next(events)
        equal((event.key, event.value), (f"watch/{order}".encode(), b"x"))
        last = event.mod_revision
    cancel()

    c.compact(last)
    history, _ = c.watch("watch/a", start_revision=last - 1)
    equal(refused(exceptions.RevisionCompactedError, lambda: next(history)).compacted_revision, last)


def written(c, name):
    try:
        c.put(f"watch/{name}", "x")
        return True
    except exceptions.ConnectionFailedError:
        return False


def lease(c):
    short, kept = c.lease(5), c.lease(60)
    c.put("lease/short", "1", lease=short)
    c.put("lease/kept", "1", lease=kept)
    equal(c.get("lease/short")[1].lease_id, short.id)
    equal((short.granted_ttl, list(short.keys)), (5, [b"lease/short"]))
    gone, cancel = c.watch("lease/short")
    equal(kept.refresh()[0].TTL, 60)
    equal(type(next(gone)).__name__, "DeleteEvent")
    cancel()
    equal(short.remaining_ttl, -1)
    assert 0 < kept.remaining_ttl <= 60
    server("kill")
    until(lambda: written(c, "lease"))
    equal(kept.refresh()[0].TTL, 60)
    kept.revoke()
    equal(c.get("lease/kept"), (None, None))
    refused(grpc.RpcError, lambda: c.put("lease/kept", "1", lease=kept))
    own = c.lease(60, lease_id=4711)
    equal(own.id, 4711)
    refused(exceptions.PreconditionFailedError, lambda: c.lease(60, lease_id=4711))
    own.revoke()


def lock(c):
    most, holders, taken = 0, 0, 0
    mutex = threading.Lock()

    def work():
        nonlocal most, holders, taken
        own = connect()
        for _ in range(4):
            held = own.lock("suite", ttl=30)
            # It misses a release between its attempt and its watch, and then sleeps for the whole of the time.
            until(lambda: held.acquire(timeout=1))
            with mutex:
                holders += 1
                most, taken = max(most, holders), taken + 1
            assert held.is_acquired()
            with mutex:
                holders -= 1
            assert held.release()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    equal((most, taken), (1, 12))

    # One that is never released ends with its lease, also when the server ended meanwhile.
    orphan = c.lock("orphan", ttl=5)
    assert orphan.acquire()
    heir = c.lock("orphan", ttl=30)
    assert not heir.acquire(timeout=0)
    server("kill")
    until(lambda: written(c, "lock"))
    until(lambda: heir.acquire(timeout=1))
    assert heir.release()


def auth(c):
    rpc = etcdrpc.AuthStub(c.channel)
    rpc.UserAdd(etcdrpc.AuthUserAddRequest(name="root", password="of all"))
    rpc.UserAdd(etcdrpc.AuthUserAddRequest(name="ann", password="ann's"))
    rpc.RoleAdd(etcdrpc.AuthRoleAddRequest(name="root"))
    rpc.RoleAdd(etcdrpc.AuthRoleAddRequest(name="own"))
    grant = etcdrpc.AuthRoleGrantPermissionRequest(name="own")
    grant.perm.permType, grant.perm.key, grant.perm.range_end = 2, b"own/", b"own0"
    rpc.RoleGrantPermission(grant)
    rpc.UserGrantRole(etcdrpc.AuthUserGrantRoleRequest(user="root", role="root"))
    rpc.UserGrantRole(etcdrpc.AuthUserGrantRoleRequest(user="ann", role="own"))
    rpc.AuthEnable(etcdrpc.AuthEnableRequest())

    refused(grpc.RpcError, lambda: c.get("own/a"))
    host, port = address()
    refused(grpc.RpcError, lambda: etcd3.client(host=host, port=port, user="ann", password="wrong"))
    for order in (None, "kill"):
        if order:
            # Tokens end with it.
            server(order)
            until(served)
        ann, root = logged_in("ann", "ann's"), logged_in("root", "of all")
        root.put("other", "1")
        ann.put("own/a", "1")
        equal(ann.get("own/a")[0], b"1")
        equal(refused(grpc.RpcError, lambda: ann.put("other", "1")).code(), grpc.StatusCode.PERMISSION_DENIED)
        events, cancel = ann.watch("own/b")
        held = ann.lease(30)
        root.put("own/b", "1", lease=held)
        equal(next(events).value, b"1")
        cancel()
        held.revoke()
    etcdrpc.AuthStub(root.channel).AuthDisable(etcdrpc.AuthDisableRequest(), metadata=root.metadata)
    equal(c.get("other")[0], b"1")


def served():
    try:
        logged_in("root", "of all")
        return True
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        return False


for part in wanted([kv, txn, watch, lease, lock, auth]):
    part(connect())
