package main

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/mirror"
)

func watch(s *suite) {
	events(s)
	progress(s)
	compacted(s)
	large(s)
	resumed(s)
	mirrored(s)
}

// What a watch says of each kind of event, from the past on and of what comes.
func events(s *suite) {
	c := s.client
	ctx, cancel := s.deadline()
	defer cancel()
	first, err := c.Put(ctx, "events/a", "1")
	check(err)
	_, err = c.Put(ctx, "events/a", "2")
	check(err)
	all := c.Watch(ctx, "events/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision), clientv3.WithPrevKV())
	noPuts := c.Watch(ctx, "events/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithRev(first.Header.Revision))
	created := c.Watch(ctx, "events/x", clientv3.WithCreatedNotify())
	equal(next(created).Created, true)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("events/b", "3"), clientv3.OpDelete("events/a")).Commit()
	check(err)
	var said []string
	for len(said) < 4 {
		answer := next(all)
		check(answer.Err())
		for _, event := range answer.Events {
			before := "none"
			if event.PrevKv != nil {
				before = string(event.PrevKv.Value)
			}
			said = append(said, fmt.Sprintf("%v %s=%s (%s) create %v modify %v", event.Type, event.Kv.Key, event.Kv.Value,
				before, event.IsCreate(), event.IsModify()))
		}
	}
	equal(strings.Join(said, "; "), "PUT events/a=1 (none) create true modify false; "+
		"PUT events/a=2 (1) create false modify true; PUT events/b=3 (none) create true modify false; "+
		"DELETE events/a= (2) create false modify false")
	filtered := next(noPuts)
	equal(len(filtered.Events), 1)
	equal(filtered.Events[0].Type, clientv3.EventTypeDelete)
	equal(filtered.Events[0].Kv.ModRevision, first.Header.Revision+2)

	// Cancelled on its own: others of the stream go on.
	one, cancelOne := s.deadline()
	ended := c.Watch(one, "events/b")
	cancelOne()
	for range ended {
	}
	_, err = c.Put(ctx, "events/x", "after")
	check(err)
	equal(string(next(created).Events[0].Kv.Value), "after")
}

func progress(s *suite) {
	ctx, cancel := s.deadline()
	defer cancel()
	// Progress is asked of the stream, which is by the context's metadata.
	c := s.connect("", "")
	answers := c.Watch(ctx, "progress", clientv3.WithCreatedNotify())
	next(answers)
	put, err := c.Put(ctx, "progress/other", "1")
	check(err)
	check(c.RequestProgress(ctx))
	answer := next(answers)
	equal(answer.IsProgressNotify(), true)
	equal(answer.Header.Revision, put.Header.Revision)
	check(c.Close())
}

func compacted(s *suite) {
	c := s.client
	ctx, cancel := s.deadline()
	defer cancel()
	first, err := c.Put(ctx, "compacted", "1")
	check(err)
	last, err := c.Put(ctx, "compacted", "2")
	check(err)
	_, err = c.Compact(ctx, last.Header.Revision)
	check(err)
	answer := next(c.Watch(ctx, "compacted", clientv3.WithRev(first.Header.Revision)))
	refused(answer.Err(), rpctypes.ErrCompacted)
	equal(answer.CompactRevision, last.Header.Revision)
	answer = next(c.Watch(ctx, "compacted", clientv3.WithRev(last.Header.Revision)))
	equal(string(answer.Events[0].Kv.Value), "2")
	// Of what comes, and of nothing before.
	future := c.Watch(ctx, "compacted", clientv3.WithRev(last.Header.Revision+2))
	for _, value := range []string{"3", "4"} {
		_, err = c.Put(ctx, "compacted", value)
		check(err)
	}
	equal(string(next(future).Events[0].Kv.Value), "4")
}

// A revision too large for a message, put together again from its fragments.
func large(s *suite) {
	c := s.client
	ctx, cancel := s.deadline()
	defer cancel()
	value := strings.Repeat("v", 1<<20)
	for i := range 8 {
		_, err := c.Put(ctx, fmt.Sprintf("large/%d", i), value)
		check(err)
	}
	from, err := c.Put(ctx, "large", "")
	check(err)
	_, err = c.Delete(ctx, "large/", clientv3.WithPrefix())
	check(err)
	answers := c.Watch(ctx, "large/", clientv3.WithPrefix(), clientv3.WithRev(from.Header.Revision),
		clientv3.WithPrevKV(), clientv3.WithFragment())
	answer := next(answers)
	check(answer.Err())
	equal(len(answer.Events), 8)
	equal(len(answer.Events[7].PrevKv.Value), len(value))
}

// Nothing is lost or seen twice while the server ends, in order and not, and starts again.
func resumed(s *suite) {
	c := s.client
	ctx, cancel := s.deadline()
	defer cancel()
	watched := c.Watch(ctx, "resumed/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	idle := c.Watch(ctx, "resumed/last")
	expected := 0
	seen := func() {
		for range 5 {
			// The connection may be found broken by the first one.
			for {
				_, err := c.Put(ctx, "resumed/key", fmt.Sprint(expected))
				if err == nil {
					break
				}
				check(ctx.Err())
			}
			expected++
		}
	}
	receive := func(from, to int) {
		for from < to {
			answer := next(watched)
			check(answer.Err())
			for _, event := range answer.Events {
				equal(string(event.Kv.Value), fmt.Sprint(from))
				equal(event.Kv.Version, int64(from+1))
				if from > 0 {
					equal(string(event.PrevKv.Value), fmt.Sprint(from-1))
				}
				from++
			}
		}
	}
	seen()
	receive(0, 3)
	s.server("restart")
	seen()
	receive(3, 10)
	s.server("kill")
	seen()
	receive(10, 15)
	_, err := c.Put(ctx, "resumed/last", "x")
	check(err)
	equal(string(next(idle).Events[0].Kv.Value), "x")
}

// A copy of a prefix: what is there, then what changes.
func mirrored(s *suite) {
	c := s.client
	ctx, cancel := s.deadline()
	defer cancel()
	const many = 1500
	for i := range many / 100 {
		ops := make([]clientv3.Op, 100)
		for j := range ops {
			ops[j] = clientv3.OpPut(fmt.Sprintf("mirrored/%04d", i*100+j), "base")
		}
		_, err := c.Txn(ctx).Then(ops...).Commit()
		check(err)
	}
	syncer := mirror.NewSyncer(c, "mirrored/", 0)
	base, failed := syncer.SyncBase(ctx)
	got := 0
	for page := range base {
		got += len(page.Kvs)
	}
	check(<-failed)
	equal(got, many)
	updates := syncer.SyncUpdates(ctx)
	_, err := c.Delete(ctx, "mirrored/", clientv3.WithPrefix())
	check(err)
	answer := next(updates)
	check(answer.Err())
	equal(len(answer.Events), many)
}
