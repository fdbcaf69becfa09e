"""The client `python-etcd`, which speaks the v2 API, against one member."""

import threading

import etcd

from suite import PATIENCE, address, equal, refused, server, until, wanted


def connect(**options):
    host, port = address()
    return etcd.Client(host=host, port=port, read_timeout=PATIENCE, allow_reconnect=True, **options)


def keys():
    client = connect()
    set_ = client.set("/keys/a", "1")
    equal((set_.action, set_.value, set_.newKey), ("set", "1", True))
    equal(client.get("/keys/a").value, "1")
    equal(client.set("/keys/a", "2").newKey, False)
    refused(etcd.EtcdAlreadyExist, lambda: client.write("/keys/a", "x", prevExist=False))
    refused(etcd.EtcdKeyNotFound, lambda: client.write("/keys/none", "x", prevExist=True))
    refused(etcd.EtcdCompareFailed, lambda: client.test_and_set("/keys/a", "3", "1"))
    equal(client.test_and_set("/keys/a", "3", "2").value, "3")
    got = client.get("/keys/a")
    got.value = "4"
    equal(client.update(got).value, "4")
    refused(etcd.EtcdCompareFailed, lambda: client.update(got))
    client.write("/keys/queue", "first", append=True)
    client.write("/keys/queue", "second", append=True)
    equal([job.value for job in client.read("/keys/queue", sorted=True).children], ["first", "second"])
    client.write("/keys/dir", None, dir=True, ttl=1000)
    refused(etcd.EtcdNotFile, lambda: client.write("/keys/dir", "x"))
    equal(client.write("/keys/dir", None, dir=True, prevExist=True, ttl=500).ttl, 500)
    refused(etcd.EtcdNotDir, lambda: client.write("/keys/a/b", "x"))
    refused(etcd.EtcdDirNotEmpty, lambda: client.delete("/keys", dir=True))
    timed = client.write("/keys/timed", "\u00e4 <&>", ttl=1000)
    equal((timed.value, timed.ttl), ("\u00e4 <&>", 1000))
    client.refresh("/keys/timed", ttl=2000)
    equal(client.get("/keys/timed").ttl > 1000, True)
    names = sorted(leaf.key for leaf in client.read("/keys", recursive=True).leaves)
    equal(len(names), 5)
    equal(client.delete("/keys", recursive=True).action, "delete")
    refused(etcd.EtcdKeyNotFound, lambda: client.get("/keys"))


def waits():
    client = connect()
    first = client.set("/waits/a", "0").etcd_index
    told = []

    def follow():
        for event in connect().eternal_watch("/waits", index=first + 1, recursive=True):
            told.append(event.action)
            if event.action == "expire":
                return

    follower = threading.Thread(target=follow)
    follower.start()
    client.set("/waits/b", "1", ttl=1)
    client.delete("/waits/a")
    follower.join(PATIENCE)
    equal(told, ["set", "delete", "expire"])
    equal(client.watch("/waits/a", index=first).value, "0")
    for _ in range(1100):
        client.set("/elsewhere", "x")
    refused(etcd.EtcdEventIndexCleared, lambda: client.watch("/waits", index=first))


def members():
    client = connect()
    host, port = address()
    equal(client.machines, [f"http://{host}:{port}"])
    equal(client.leader["clientURLs"], [f"http://{host}:{port}"])
    equal(len(client.members), 1)
    equal(client.stats["state"], "StateLeader")
    equal(client.store_stats["watchers"], 0)


def lock():
    holder, other = etcd.Lock(connect(), "name"), etcd.Lock(connect(), "name")
    equal(holder.acquire(lock_ttl=1000), True)
    equal(other.acquire(blocking=False, lock_ttl=1000), False)
    got = []
    waiting = threading.Thread(target=lambda: got.append(other.acquire(lock_ttl=1000, timeout=PATIENCE)))
    waiting.start()
    holder.release()
    waiting.join(PATIENCE)
    equal(got, [True])
    other.release()


def restarts():
    client = connect()
    for order in ("restart", "kill"):
        index = client.set("/restarts/kept", order).modifiedIndex
        server(order)
        until(lambda: client.get("/restarts/kept").modifiedIndex == index)
        equal(client.watch("/restarts", index=index, recursive=True).value, order)


for part in wanted([keys, waits, members, lock, restarts]):
    part()
