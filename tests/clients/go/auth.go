package main

import (
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func auth(s *suite) {
	c, ctx := s.client, s.ctx
	before, err := c.AuthStatus(ctx)
	check(err)
	equal(before.Enabled, false)
	_, err = c.AuthEnable(ctx)
	refused(err, rpctypes.ErrRootUserNotExist)
	for name, password := range map[string]string{"root": "of all", "ann": "ann's"} {
		_, err = c.UserAdd(ctx, name, password)
		check(err)
	}
	_, err = c.UserAdd(ctx, "ann", "again")
	refused(err, rpctypes.ErrUserAlreadyExist)
	_, err = c.RoleAdd(ctx, "readers")
	check(err)
	_, err = c.RoleAdd(ctx, "root")
	check(err)
	_, err = c.RoleGrantPermission(ctx, "readers", "auth/", clientv3.GetPrefixRangeEnd("auth/"),
		clientv3.PermissionType(clientv3.PermRead))
	check(err)
	_, err = c.RoleGrantPermission(ctx, "readers", "auth/own", "", clientv3.PermissionType(clientv3.PermReadWrite))
	check(err)
	_, err = c.UserGrantRole(ctx, "ann", "readers")
	check(err)
	_, err = c.UserGrantRole(ctx, "root", "root")
	check(err)
	_, err = c.AuthEnable(ctx)
	check(err)

	_, err = c.Get(ctx, "auth/a")
	refused(err, rpctypes.ErrUserEmpty)
	_, err = s.tryConnect("ann", "wrong")
	refused(err, rpctypes.ErrAuthFailed)
	root, ann := s.connect("root", "of all"), s.connect("ann", "ann's")
	_, err = root.Put(ctx, "auth/a", "1")
	check(err)
	permitted := func() {
		_, err = ann.Get(ctx, "auth/", clientv3.WithPrefix())
		check(err)
		_, err = ann.Put(ctx, "auth/own", "by ann", clientv3.WithPrevKV())
		check(err)
		_, err = ann.Put(ctx, "auth/a", "2")
		refused(err, rpctypes.ErrPermissionDenied)
		_, err = ann.Get(ctx, "b")
		refused(err, rpctypes.ErrPermissionDenied)
		_, err = ann.Txn(ctx).Then(clientv3.OpGet("auth/a"), clientv3.OpDelete("auth/a")).Commit()
		refused(err, rpctypes.ErrPermissionDenied)
		_, err = ann.UserAdd(ctx, "eve", "x")
		refused(err, rpctypes.ErrPermissionDenied)
		own, err := ann.UserGet(ctx, "ann")
		check(err)
		equal(own.Roles, []string{"readers"})
	}
	permitted()

	watching, cancel := s.deadline()
	defer cancel()
	allowed := ann.Watch(watching, "auth/", clientv3.WithPrefix())
	denied := next(ann.Watch(watching, "b"))
	equal(denied.Canceled, true)
	// The reason is what the server's interceptor would have said.
	equal(denied.Err().Error(), "rpc error: code = PermissionDenied desc = etcdserver: permission denied")
	_, err = root.Put(ctx, "auth/a", "3")
	check(err)
	equal(string(next(allowed).Events[0].Kv.Value), "3")

	// Tokens end with the server; a client gets itself another.
	s.server("restart")
	permitted()
	_, err = root.Put(ctx, "auth/a", "4")
	check(err)
	for {
		answer := next(allowed)
		check(answer.Err())
		if last := answer.Events[len(answer.Events)-1]; string(last.Kv.Value) == "4" {
			break
		}
	}

	_, err = root.UserChangePassword(ctx, "ann", "new")
	check(err)
	_, err = s.tryConnect("ann", "ann's")
	refused(err, rpctypes.ErrAuthFailed)
	_, err = root.RoleRevokePermission(ctx, "readers", "auth/own", "")
	check(err)
	renewed := s.connect("ann", "new")
	_, err = renewed.Put(ctx, "auth/own", "x")
	refused(err, rpctypes.ErrPermissionDenied)
	granted, err := root.RoleGet(ctx, "readers")
	check(err)
	equal(len(granted.Perm), 1)
	_, err = root.UserDelete(ctx, "root")
	refused(err, rpctypes.ErrInvalidAuthMgmt)
	roles, err := root.RoleList(ctx)
	check(err)
	equal(roles.Roles, []string{"readers", "root"})
	users, err := root.UserList(ctx)
	check(err)
	equal(users.Users, []string{"ann", "root"})

	_, err = root.AuthDisable(ctx)
	check(err)
	for _, name := range users.Users {
		_, err = c.UserDelete(ctx, name)
		check(err)
	}
	for _, name := range roles.Roles {
		_, err = c.RoleDelete(ctx, name)
		check(err)
	}
	_, err = c.Get(ctx, "b")
	check(err)
	check(root.Close())
	check(renewed.Close())
	check(ann.Close())
}
