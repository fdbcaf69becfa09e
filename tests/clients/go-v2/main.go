// The official Go client of the v2 API, client/v2, against one member: its keys and members, and call for call what programs of
// that time do with it that are not to be had as packages any more. See ../../clients.rs for how it is called and what it says.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"reflect"
	"sort"
	"time"

	client "go.etcd.io/etcd/client/v2"
)

// How long anything may take that is meant to happen.
const patience = 30 * time.Second

type suite struct {
	client client.Client
	keys   client.KeysAPI
	ctx    context.Context
}

var parts = []struct {
	name string
	run  func(*suite)
}{
	{"keys", keys},
	{"waits", waits},
	{"members", members},
	{"locksmith", locksmith},
	{"vulcand", vulcand},
	{"confd", confd},
}

func main() {
	log.SetFlags(log.Lshortfile)
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	c, err := client.New(client.Config{Endpoints: []string{"http://" + os.Args[1]}, HeaderTimeoutPerRequest: patience})
	check(err)
	s := &suite{client: c, keys: client.NewKeysAPI(c), ctx: ctx}
	// The endpoints that clients are told of are those they reach.
	check(c.Sync(ctx))
	for _, name := range os.Args[2:] {
		known := false
		for _, part := range parts {
			if part.name == name {
				known = true
				since := time.Now()
				part.run(s)
				fmt.Printf("%s ok, %.1f s\n", name, time.Since(since).Seconds())
			}
		}
		if !known {
			log.Fatalf("no part %q", name)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func equal(got, want any) {
	if !reflect.DeepEqual(got, want) {
		log.Output(2, fmt.Sprintf("expected %#v, got %#v", want, got))
		os.Exit(1)
	}
}

func refused(err error, code int) {
	if told, ok := err.(client.Error); !ok || told.Code != code {
		log.Output(2, fmt.Sprintf("expected error %d, got %v", code, err))
		os.Exit(1)
	}
}

func keys(s *suite) {
	made, err := s.keys.Create(s.ctx, "/keys/a", "1")
	check(err)
	equal(made.Action, "create")
	equal(made.Node.Value, "1")
	equal(made.Index, made.Node.CreatedIndex)
	_, err = s.keys.Create(s.ctx, "/keys/a", "2")
	refused(err, client.ErrorCodeNodeExist)
	_, err = s.keys.Update(s.ctx, "/keys/none", "2")
	refused(err, client.ErrorCodeKeyNotFound)
	set, err := s.keys.Set(s.ctx, "/keys/a", "2", &client.SetOptions{PrevValue: "1", PrevIndex: made.Node.ModifiedIndex})
	check(err)
	equal(set.PrevNode.Value, "1")
	_, err = s.keys.Set(s.ctx, "/keys/a", "3", &client.SetOptions{PrevValue: "1"})
	refused(err, client.ErrorCodeTestFailed)
	timed, err := s.keys.Set(s.ctx, "/keys/timed", "x", &client.SetOptions{TTL: time.Hour})
	check(err)
	equal(timed.Node.TTLDuration() > 59*time.Minute, true)
	_, err = s.keys.Set(s.ctx, "/keys/timed", "", &client.SetOptions{TTL: 2 * time.Hour, Refresh: true, PrevExist: client.PrevExist})
	check(err)
	again, err := s.keys.Get(s.ctx, "/keys/timed", &client.GetOptions{Quorum: true})
	check(err)
	equal(again.Node.Value, "x")
	equal(again.Node.TTLDuration() > 119*time.Minute, true)
	for range 3 {
		_, err = s.keys.CreateInOrder(s.ctx, "/keys/queue", "job", nil)
		check(err)
	}
	listed, err := s.keys.Get(s.ctx, "/keys", &client.GetOptions{Recursive: true, Sort: true})
	check(err)
	equal(len(listed.Node.Nodes), 3)
	equal(len(listed.Node.Nodes[1].Nodes), 3)
	_, err = s.keys.Delete(s.ctx, "/keys", nil)
	refused(err, client.ErrorCodeNotFile)
	_, err = s.keys.Delete(s.ctx, "/keys", &client.DeleteOptions{Dir: true})
	refused(err, client.ErrorCodeDirNotEmpty)
	_, err = s.keys.Delete(s.ctx, "/keys", &client.DeleteOptions{Recursive: true})
	check(err)
	_, err = s.keys.Get(s.ctx, "/keys", nil)
	equal(client.IsKeyNotFound(err), true)
}

func waits(s *suite) {
	first, err := s.keys.Set(s.ctx, "/waits/a", "0", nil)
	check(err)
	watcher := s.keys.Watcher("/waits", &client.WatcherOptions{AfterIndex: first.Index, Recursive: true})
	told := make(chan string)
	go func() {
		for {
			event, err := watcher.Next(s.ctx)
			check(err)
			told <- event.Action + event.Node.Key
			if event.Action == "expire" {
				return
			}
		}
	}()
	_, err = s.keys.Set(s.ctx, "/waits/b", "1", &client.SetOptions{TTL: time.Second})
	check(err)
	_, err = s.keys.Delete(s.ctx, "/waits/a", nil)
	check(err)
	for _, want := range []string{"set/waits/b", "delete/waits/a", "expire/waits/b"} {
		equal(<-told, want)
	}
	for range 1100 {
		_, err = s.keys.Set(s.ctx, "/elsewhere", "x", nil)
		check(err)
	}
	_, err = s.keys.Watcher("/waits", &client.WatcherOptions{AfterIndex: first.Index}).Next(s.ctx)
	refused(err, client.ErrorCodeEventIndexCleared)
}

func members(s *suite) {
	api := client.NewMembersAPI(s.client)
	list, err := api.List(s.ctx)
	check(err)
	equal(len(list), 1)
	leader, err := api.Leader(s.ctx)
	check(err)
	equal(leader.ID, list[0].ID)
	// No quorum would be left with it; what matters is that it is told.
	_, err = api.Add(s.ctx, list[0].PeerURLs[0])
	equal(err != nil, true)
	err = api.Remove(s.ctx, "1234")
	equal(err != nil, true)
	version, err := s.client.GetVersion(s.ctx)
	check(err)
	equal(version.Server != "", true)
}

const semaphorePath = "coreos.com/updateengine/rebootlock/semaphore"

type semaphore struct {
	Index     uint64   `json:"-"`
	Semaphore int      `json:"semaphore"`
	Max       int      `json:"max"`
	Holders   []string `json:"holders"`
}

// locksmith's lock/etcd.go and lock/lock.go: a semaphore that is swapped by its index until it is as wanted.
func locksmith(s *suite) {
	initial, err := json.Marshal(&semaphore{Semaphore: 1, Max: 1, Holders: []string{}})
	check(err)
	for range 2 {
		_, err = s.keys.Create(s.ctx, semaphorePath, string(initial))
		if told, ok := err.(client.Error); !ok || told.Code != client.ErrorCodeNodeExist {
			check(err)
		}
	}
	get := func() *semaphore {
		resp, err := s.keys.Get(s.ctx, semaphorePath, nil)
		check(err)
		sem := &semaphore{}
		check(json.Unmarshal([]byte(resp.Node.Value), sem))
		sem.Index = resp.Node.ModifiedIndex
		return sem
	}
	set := func(sem *semaphore) error {
		value, err := json.Marshal(sem)
		check(err)
		_, err = s.keys.Set(s.ctx, semaphorePath, string(value), &client.SetOptions{PrevIndex: sem.Index})
		return err
	}
	lock := func(holder string) bool {
		for {
			sem := get()
			if sem.Semaphore == 0 {
				return false
			}
			sem.Semaphore--
			sem.Holders = append(sem.Holders, holder)
			sort.Strings(sem.Holders)
			err := set(sem)
			if err == nil {
				return true
			}
			refused(err, client.ErrorCodeTestFailed)
		}
	}
	stale := get()
	equal(lock("one"), true)
	equal(lock("other"), false)
	refused(set(stale), client.ErrorCodeTestFailed)
	done := make(chan bool)
	sem := get()
	sem.Max, sem.Semaphore, sem.Holders = 8, 8, []string{}
	check(set(sem))
	for n := range 16 {
		go func() { done <- lock(fmt.Sprint(n)) }()
	}
	held := 0
	for range 16 {
		if <-done {
			held++
		}
	}
	equal(held, 8)
	equal(len(get().Holders), 8)
}

// vulcand's engine/etcdv2ng: hosts and servers with a time, all read at once with a quorum, then every change after that.
func vulcand(s *suite) {
	const prefix = "/vulcand"
	set := func(key, value string, ttl time.Duration) {
		_, err := s.keys.Set(s.ctx, prefix+key, value, &client.SetOptions{TTL: ttl})
		check(err)
	}
	set("/backends/b1/backend", `{"Type":"http"}`, 0)
	set("/backends/b1/servers/srv1", `{"URL":"http://localhost:5000"}`, time.Hour)
	set("/frontends/f1/frontend", `{"Type":"http","BackendId":"b1"}`, 0)
	_, err := s.keys.Set(s.ctx, prefix+"/frontends/f1", "", &client.SetOptions{Dir: true, PrevExist: client.PrevExist, TTL: time.Hour})
	check(err)
	all, err := s.keys.Get(s.ctx, prefix, &client.GetOptions{Recursive: true, Sort: true, Quorum: true})
	check(err)
	equal(len(all.Node.Nodes), 2)
	equal(all.Node.Nodes[1].Nodes[0].TTLDuration() > 59*time.Minute, true)
	watcher := s.keys.Watcher(prefix, &client.WatcherOptions{AfterIndex: all.Index, Recursive: true})
	changes := []string{
		"set/backends/b1/servers/srv2", "set/backends/b1/servers/srv1", "delete/backends/b1/servers/srv2",
		"delete/frontends/f1", "create/hosts/localhost",
	}
	set("/backends/b1/servers/srv2", "{}", time.Minute)
	set("/backends/b1/servers/srv1", "{}", time.Hour)
	_, err = s.keys.Delete(s.ctx, prefix+"/backends/b1/servers/srv2", &client.DeleteOptions{Recursive: true})
	check(err)
	_, err = s.keys.Delete(s.ctx, prefix+"/frontends/f1", &client.DeleteOptions{Recursive: true})
	check(err)
	_, err = s.keys.Create(s.ctx, prefix+"/hosts/localhost", "{}")
	check(err)
	for _, want := range changes {
		event, err := watcher.Next(s.ctx)
		check(err)
		equal(event.Action+event.Node.Key[len(prefix):], want)
	}
}

// confd's backends/etcd: everything below some keys, then a wait for the next change of them.
func confd(s *suite) {
	_, err := s.keys.Set(s.ctx, "/myapp/database/url", "db.example.com", nil)
	check(err)
	resp, err := s.keys.Get(s.ctx, "/myapp", &client.GetOptions{Recursive: true, Sort: true, Quorum: true})
	check(err)
	equal(resp.Node.Nodes[0].Nodes[0].Value, "db.example.com")
	watcher := s.keys.Watcher("/myapp", &client.WatcherOptions{AfterIndex: 0, Recursive: true})
	got := make(chan uint64)
	go func() {
		event, err := watcher.Next(s.ctx)
		check(err)
		got <- event.Node.ModifiedIndex
	}()
	// It waits for what happens from when it was heard on, which nobody is told of.
	for {
		_, err = s.keys.Set(s.ctx, "/myapp/database/user", "rob", nil)
		check(err)
		select {
		case index := <-got:
			equal(index > resp.Index, true)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
