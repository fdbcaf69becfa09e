package main

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
)

func kv(s *suite) {
	c, ctx := s.client, s.ctx
	first, err := c.Put(ctx, "kv/a", "1")
	check(err)
	second, err := c.Put(ctx, "kv/a", "2", clientv3.WithPrevKV())
	check(err)
	equal(string(second.PrevKv.Value), "1")
	equal(second.Header.Revision, first.Header.Revision+1)
	for _, name := range []string{"b", "c", "d"} {
		_, err = c.Put(ctx, "kv/"+name, name)
		check(err)
	}
	_, err = c.Put(ctx, "kv/none", "", clientv3.WithIgnoreValue())
	refused(err, rpctypes.ErrKeyNotFound)
	_, err = c.Put(ctx, "", "x")
	refused(err, rpctypes.ErrEmptyKey)
	_, err = c.Put(ctx, "kv/large", strings.Repeat("x", 1600*1024))
	refused(err, rpctypes.ErrRequestTooLarge)

	page, err := c.Get(ctx, "kv/", clientv3.WithPrefix(), clientv3.WithLimit(2),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	check(err)
	equal(keys(page), "kv/d kv/c")
	equal(page.Count, int64(4))
	equal(page.More, true)
	newest, err := c.Get(ctx, "kv/", clientv3.WithLastRev()...)
	check(err)
	equal(keys(newest), "kv/d")
	old, err := c.Get(ctx, "kv/a", clientv3.WithRev(first.Header.Revision), clientv3.WithSerializable())
	check(err)
	equal(string(old.Kvs[0].Value), "1")
	equal(old.Kvs[0].Version, int64(1))
	count, err := c.Get(ctx, "kv/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	check(err)
	equal(count.Count, int64(4))
	_, err = c.Get(ctx, "kv/a", clientv3.WithRev(second.Header.Revision+1000))
	refused(err, rpctypes.ErrFutureRev)

	stream, err := c.GetStream(ctx, "kv/", clientv3.WithPrefix())
	check(err)
	streamed := 0
	for part := range stream {
		check(part.Err())
		streamed += len(part.Kvs)
	}
	equal(streamed, 4)

	deleted, err := c.Delete(ctx, "kv/b", clientv3.WithRange("kv/d"), clientv3.WithPrevKV())
	check(err)
	equal(deleted.Deleted, int64(2))
	equal(string(deleted.PrevKvs[1].Value), "c")
	_, err = c.Compact(ctx, second.Header.Revision, clientv3.WithCompactPhysical())
	check(err)
	_, err = c.Get(ctx, "kv/a", clientv3.WithRev(first.Header.Revision))
	refused(err, rpctypes.ErrCompacted)

	inside := namespace.NewKV(c.KV, "space/")
	_, err = inside.Put(ctx, "a", "inside")
	check(err)
	outside, err := c.Get(ctx, "space/a")
	check(err)
	equal(string(outside.Kvs[0].Value), "inside")

	// Never back in time, over a client that is told to be serializable.
	ordered := ordering.NewKV(c.KV, ordering.NewOrderViolationSwitchEndpointClosure(c))
	for i := range 20 {
		put, err := ordered.Put(ctx, "ordered", fmt.Sprint(i))
		check(err)
		got, err := ordered.Get(ctx, "ordered", clientv3.WithSerializable())
		check(err)
		equal(got.Header.Revision >= put.Header.Revision, true)
		equal(string(got.Kvs[0].Value), fmt.Sprint(i))
	}

	status, err := c.Status(ctx, s.endpoint)
	check(err)
	equal(status.Header.MemberId, status.Leader)
	members, err := c.MemberList(ctx)
	check(err)
	equal(len(members.Members), 1)
	hash, err := c.HashKV(ctx, s.endpoint, 0)
	check(err)
	equal(hash.Hash != 0, true)
}

func txn(s *suite) {
	c, ctx := s.client, s.ctx
	create := func(value string) *clientv3.TxnResponse {
		answer, err := c.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision("txn/a"), "=", 0)).
			Then(clientv3.OpPut("txn/a", value)).
			Else(clientv3.OpGet("txn/a")).
			Commit()
		check(err)
		return answer
	}
	equal(create("1").Succeeded, true)
	again := create("2")
	equal(again.Succeeded, false)
	equal(string(again.Responses[0].GetResponseRange().Kvs[0].Value), "1")

	nested, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.Value("txn/").WithPrefix(), "=", "1"),
			clientv3.Compare(clientv3.Version("txn/none"), "=", 0)).
		Then(
			clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision("txn/a"), ">", 0)},
				[]clientv3.Op{clientv3.OpPut("txn/b", "nested"), clientv3.OpDelete("txn/a", clientv3.WithPrevKV())},
				nil),
			clientv3.OpGet("txn/", clientv3.WithPrefix())).
		Commit()
	check(err)
	equal(nested.Succeeded, true)
	inner := nested.Responses[0].GetResponseTxn()
	equal(inner.Succeeded, true)
	equal(string(inner.Responses[1].GetResponseDeleteRange().PrevKvs[0].Value), "1")
	left := nested.Responses[1].GetResponseRange()
	equal(len(left.Kvs), 1)
	equal(left.Kvs[0].ModRevision, nested.Header.Revision)

	_, err = c.Txn(ctx).Then(clientv3.OpPut("txn/c", "1"), clientv3.OpPut("txn/c", "2")).Commit()
	refused(err, rpctypes.ErrDuplicateKey)
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet("txn/a")
	}
	_, err = c.Txn(ctx).Then(many...).Commit()
	refused(err, rpctypes.ErrTooManyOps)
}

// Cached reads that others' writes revoke: sessions, transactions and watches at once.
func cached(s *suite) {
	ctx, cancel := s.deadline()
	defer cancel()
	one, closeOne, err := leasing.NewKV(s.connect("", ""), "leasing/")
	check(err)
	defer closeOne()
	two, closeTwo, err := leasing.NewKV(s.connect("", ""), "leasing/")
	check(err)
	defer closeTwo()
	for i := range 10 {
		value := fmt.Sprint(i)
		_, err = one.Put(ctx, "cached", value)
		check(err)
		for _, client := range []clientv3.KV{one, two, one} {
			got, err := client.Get(ctx, "cached")
			check(err)
			equal(string(got.Kvs[0].Value), value)
		}
		if i%3 == 0 {
			_, err = two.Txn(ctx).
				If(clientv3.Compare(clientv3.Value("cached"), "=", value)).
				Then(clientv3.OpPut("cached", "by two")).Commit()
			check(err)
			got, err := one.Get(ctx, "cached")
			check(err)
			equal(string(got.Kvs[0].Value), "by two")
		}
	}
	_, err = two.Delete(ctx, "cached")
	check(err)
	gone, err := one.Get(ctx, "cached")
	check(err)
	equal(gone.Count, int64(0))
}

func keys(response *clientv3.GetResponse) string {
	names := make([]string, len(response.Kvs))
	for i, kv := range response.Kvs {
		names[i] = string(kv.Key)
	}
	return strings.Join(names, " ")
}
