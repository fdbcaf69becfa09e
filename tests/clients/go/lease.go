package main

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func lease(s *suite) {
	c := s.client
	// Most of the time goes to waiting here.
	ctx, cancel := context.WithTimeout(s.ctx, 3*patience)
	defer cancel()

	// Expiry takes the keys and nothing else.
	short, err := c.Grant(ctx, 5)
	check(err)
	put, err := c.Put(ctx, "lease/short", "1", clientv3.WithLease(short.ID))
	check(err)
	_, err = c.Put(ctx, "lease/detached", "1", clientv3.WithLease(short.ID))
	check(err)
	_, err = c.Put(ctx, "lease/detached", "2")
	check(err)
	gone := c.Watch(ctx, "lease/short", clientv3.WithRev(put.Header.Revision+1))

	// Kept alive meanwhile.
	kept, err := c.Grant(ctx, 6)
	check(err)
	_, err = c.Put(ctx, "lease/kept", "1", clientv3.WithLease(kept.ID))
	check(err)
	beats, err := c.KeepAlive(ctx, kept.ID)
	check(err)
	equal(next(beats).TTL, int64(6))

	answer := next(gone)
	equal(answer.Events[0].Type, clientv3.EventTypeDelete)
	detached, err := c.Get(ctx, "lease/detached")
	check(err)
	equal(detached.Count, int64(1))
	_, err = c.KeepAliveOnce(ctx, short.ID)
	refused(err, rpctypes.ErrLeaseNotFound)
	left, err := c.TimeToLive(ctx, short.ID)
	check(err)
	equal(left.TTL, int64(-1))

	// Across an end of the server, both ways.
	for _, order := range []string{"restart", "kill"} {
		s.server(order)
		time.Sleep(2 * time.Second)
		held, err := c.TimeToLive(ctx, kept.ID, clientv3.WithAttachedKeys())
		check(err)
		equal(held.GrantedTTL, int64(6))
		equal(len(held.Keys), 1)
	}
	// It would have ended by now.
	time.Sleep(7 * time.Second)
	still, err := c.Get(ctx, "lease/kept")
	check(err)
	equal(still.Count, int64(1))
	equal(still.Kvs[0].Lease, int64(kept.ID))

	all, err := c.Leases(ctx)
	check(err)
	equal(len(all.Leases), 1)
	equal(all.Leases[0].ID, kept.ID)
	_, err = c.Revoke(ctx, kept.ID)
	check(err)
	none, err := c.Get(ctx, "lease/kept")
	check(err)
	equal(none.Count, int64(0))
	for beat := range beats {
		equal(beat != nil, true)
	}
	_, err = c.Revoke(ctx, kept.ID)
	refused(err, rpctypes.ErrLeaseNotFound)
	_, err = c.Put(ctx, "lease/kept", "1", clientv3.WithLease(kept.ID))
	refused(err, rpctypes.ErrLeaseNotFound)
	_, err = c.Grant(ctx, 10_000_000_000)
	refused(err, rpctypes.ErrLeaseTTLTooLarge)
}
