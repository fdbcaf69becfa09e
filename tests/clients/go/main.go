// The official Go client against one member: client/v3 with its concurrency recipes and its mirror, leasing and ordering
// wrappers. See ../../clients.rs for how it is called and what it says.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"reflect"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// How long anything may take that is meant to happen.
const patience = 30 * time.Second

type suite struct {
	endpoint string
	client   *clientv3.Client
	// Ends with the program at the latest.
	ctx   context.Context
	stdin *bufio.Reader
}

var parts = []struct {
	name string
	run  func(*suite)
}{
	{"kv", kv},
	{"txn", txn},
	{"watch", watch},
	{"lease", lease},
	{"lock", lock},
	{"auth", auth},
}

func main() {
	log.SetFlags(log.Lshortfile)
	s := &suite{endpoint: os.Args[1], ctx: context.Background(), stdin: bufio.NewReader(os.Stdin)}
	s.client = s.connect("", "")
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
	check(s.client.Close())
}

// A client of its own; with a name, it logs in.
func (s *suite) connect(name, password string) *clientv3.Client {
	client, err := s.tryConnect(name, password)
	check(err)
	return client
}

func (s *suite) tryConnect(name, password string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   []string{s.endpoint},
		DialTimeout: patience,
		Username:    name,
		Password:    password,
		Logger:      zap.NewNop(),
	})
}

func (s *suite) deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, patience)
}

// Has the server end and start again on the same address: `restart` in order, `kill` at once.
func (s *suite) server(order string) {
	fmt.Println(order)
	_, err := s.stdin.ReadString('\n')
	check(err)
}

func check(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func refused(err, want error) {
	if !errors.Is(err, want) && (err == nil || err.Error() != want.Error()) {
		log.Output(2, fmt.Sprintf("expected the error %q, got %v", want, err))
		os.Exit(1)
	}
}

func equal[T any](got, want T) {
	if !reflect.DeepEqual(got, want) {
		log.Output(2, fmt.Sprintf("expected %+v, got %+v", want, got))
		os.Exit(1)
	}
}

// The next value of a channel, or the end of the program.
func next[T any](from <-chan T) T {
	select {
	case value, open := <-from:
		if !open {
			log.Output(2, "the channel is closed")
			os.Exit(1)
		}
		return value
	case <-time.After(patience):
		log.Output(2, fmt.Sprintf("nothing came within %v", patience))
		os.Exit(1)
		panic("unreachable")
	}
}
