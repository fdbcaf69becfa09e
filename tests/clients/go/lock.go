package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func lock(s *suite) {
	mutexes(s)
	elections(s)
	transfers(s)
	queues(s)
	cached(s)
}

func (s *suite) session(ttl int) *concurrency.Session {
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(ttl))
	check(err)
	return session
}

func mutexes(s *suite) {
	ctx, cancel := s.deadline()
	defer cancel()
	// One at a time.
	var holders, most, taken int
	var counted sync.Mutex
	var all sync.WaitGroup
	count := func(change int) {
		counted.Lock()
		defer counted.Unlock()
		holders += change
		most = max(most, holders)
		if change > 0 {
			taken++
		}
	}
	for range 5 {
		all.Go(func() {
			session := s.session(30)
			mutex := concurrency.NewMutex(session, "mutex")
			for range 4 {
				check(mutex.Lock(ctx))
				count(1)
				owned, err := s.client.Txn(ctx).If(mutex.IsOwner()).Commit()
				check(err)
				equal(owned.Succeeded, true)
				count(-1)
				check(mutex.Unlock(ctx))
			}
			check(session.Close())
		})
	}
	all.Wait()
	equal(most, 1)
	equal(taken, 20)

	// A holder that is gone is waited for no longer than its lease.
	orphan := s.session(5)
	check(concurrency.NewMutex(orphan, "mutex").Lock(ctx))
	heir := s.session(30)
	next := concurrency.NewMutex(heir, "mutex")
	refused(next.TryLock(ctx), concurrency.ErrLocked)
	short, cancelShort := context.WithTimeout(ctx, 200*time.Millisecond)
	refused(next.Lock(short), context.DeadlineExceeded)
	cancelShort()
	orphan.Orphan()
	check(next.Lock(ctx))
	// Held across an end of the server.
	s.server("kill")
	refused(concurrency.NewMutex(s.session(30), "mutex").TryLock(ctx), concurrency.ErrLocked)
	check(next.Unlock(ctx))
	check(heir.Close())

	session := s.session(30)
	shared := recipe.NewRWMutex(session, "shared")
	check(shared.RLock())
	check(shared.RUnlock())
	check(shared.Lock())
	check(shared.Unlock())
	check(session.Close())
}

func elections(s *suite) {
	ctx, cancel := s.deadline()
	defer cancel()
	first, second := s.session(30), s.session(30)
	one, two := concurrency.NewElection(first, "election"), concurrency.NewElection(second, "election")
	_, err := one.Leader(ctx)
	refused(err, concurrency.ErrElectionNoLeader)
	observed := two.Observe(ctx)
	check(one.Campaign(ctx, "one"))
	equal(string(next(observed).Kvs[0].Value), "one")
	refused(two.Proclaim(ctx, "never"), concurrency.ErrElectionNotLeader)
	won := make(chan error, 1)
	go func() { won <- two.Campaign(ctx, "two") }()
	check(one.Proclaim(ctx, "one again"))
	equal(string(next(observed).Kvs[0].Value), "one again")
	// The observer may not miss the one who takes over.
	check(one.Resign(ctx))
	check(next(won))
	equal(string(next(observed).Kvs[0].Value), "two")
	leader, err := one.Leader(ctx)
	check(err)
	equal(leader.Kvs[0].Lease, int64(second.Lease()))
	check(second.Close())
	check(first.Close())
}

// Software transactional memory: what is moved between accounts is never made or lost.
func transfers(s *suite) {
	const accounts, each = 4, 100
	c := s.client
	for i := range accounts {
		_, err := c.Put(s.ctx, fmt.Sprintf("stm/%d", i), fmt.Sprint(each))
		check(err)
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 10 {
				from, to := fmt.Sprintf("stm/%d", (worker+i)%accounts), fmt.Sprintf("stm/%d", (worker+i*3+1)%accounts)
				if from == to {
					continue
				}
				_, err := concurrency.NewSTM(c, func(memory concurrency.STM) error {
					var have, had int
					if _, err := fmt.Sscan(memory.Get(from), &have); err != nil {
						return err
					}
					if _, err := fmt.Sscan(memory.Get(to), &had); err != nil {
						return err
					}
					memory.Put(from, fmt.Sprint(have-1))
					memory.Put(to, fmt.Sprint(had+1))
					return nil
				}, concurrency.WithIsolation([]concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable}[i%2]))
				check(err)
			}
		})
	}
	all.Wait()
	end, err := c.Get(s.ctx, "stm/", clientv3.WithPrefix())
	check(err)
	sum := 0
	for _, kv := range end.Kvs {
		var have int
		_, err := fmt.Sscan(string(kv.Value), &have)
		check(err)
		sum += have
	}
	equal(sum, accounts*each)
	for _, weaker := range []concurrency.Isolation{concurrency.RepeatableReads, concurrency.ReadCommitted} {
		_, err = concurrency.NewSTM(c, func(memory concurrency.STM) error {
			memory.Put("stm/weaker", memory.Get("stm/0"))
			memory.Del("stm/0")
			return nil
		}, concurrency.WithIsolation(weaker), concurrency.WithPrefetch("stm/0"))
		check(err)
	}
}

func queues(s *suite) {
	c := s.client
	queue := recipe.NewQueue(c, "queue")
	for i := range 10 {
		check(queue.Enqueue(fmt.Sprint(i)))
	}
	for i := range 10 {
		value, err := queue.Dequeue()
		check(err)
		equal(value, fmt.Sprint(i))
	}
	// A reader that waits gets what comes.
	got := make(chan string, 1)
	go func() {
		value, err := recipe.NewQueue(c, "queue").Dequeue()
		check(err)
		got <- value
	}()
	check(queue.Enqueue("late"))
	equal(next(got), "late")

	urgent := recipe.NewPriorityQueue(c, "priority")
	check(urgent.Enqueue("later", 9))
	check(urgent.Enqueue("now", 1))
	value, err := urgent.Dequeue()
	check(err)
	equal(value, "now")

	barrier := recipe.NewBarrier(c, "barrier")
	check(barrier.Hold())
	released := make(chan error, 1)
	go func() { released <- recipe.NewBarrier(c, "barrier").Wait() }()
	check(barrier.Release())
	check(next(released))

	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			session := s.session(30)
			double := recipe.NewDoubleBarrier(session, "double", 3)
			check(double.Enter())
			check(double.Leave())
			check(session.Close())
		})
	}
	all.Wait()
}
