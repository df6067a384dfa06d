package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// bareClient is a net/http client as a careful author would set it up.
func bareClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency},
		Timeout:   30 * time.Second,
	}
}

// post sends a body with the headers that keyhook sends: a receiver that is to
// drop what comes twice needs an id.
func post(ctx context.Context, client *http.Client, url, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusNoContent {
		err = errors.Join(err, errors.New(resp.Status))
	}
	return errors.Join(err, resp.Body.Close())
}

// postAll posts n bodies as fast as it can, from as many goroutines as keyhook
// has.
func postAll(ctx context.Context, url string, bodies [][]byte, n int) error {
	client := bareClient()
	defer client.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	for worker := range concurrency {
		group.Go(func() error {
			for i := worker; i < n; i += concurrency {
				if err := post(ctx, client, url, fmt.Sprintf("%d-%032x", i, i), bodies[i%len(bodies)]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// watchAndPost is what people write without keyhook: it watches, makes a message
// of each event and posts it. It loses events when it stops, when a post fails
// and when etcd compacts, and does not keep any order. It calls ready once it
// watches, and returns nil when ctx ends.
func watchAndPost(ctx context.Context, etcd *clientv3.Client, prefix, url string, ready func()) error {
	client := bareClient()
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	defer wait.Wait()
	slots := make(chan struct{}, concurrency)
	failed := make(chan error, 1)
	watching := etcd.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	for {
		var resp clientv3.WatchResponse
		var open bool
		select {
		case resp, open = <-watching:
		case err := <-failed:
			return err
		}
		if !open || resp.Err() != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the watch ended: %w", resp.Err())
		}
		if resp.Created {
			ready()
		}
		for _, ev := range resp.Events {
			body, err := message(ev)
			if err != nil {
				return err
			}
			slots <- struct{}{}
			wait.Go(func() {
				defer func() { <-slots }()
				if err := post(ctx, client, url, messageID(ev), body); err != nil && ctx.Err() == nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
}

// message is the same CloudEvent that keyhook sends, made by encoding/json.
func message(ev *clientv3.Event) ([]byte, error) {
	type held struct {
		Value    string `json:"value"`
		Revision int64  `json:"revision"`
		Created  int64  `json:"create_revision"`
		Version  int64  `json:"version"`
	}
	type data struct {
		Type string `json:"type"`
		Key  string `json:"key"`
		held
		Prev *held `json:"prev,omitempty"`
	}
	kv := ev.Kv
	d := data{Type: "PUT", Key: string(kv.GetKey()), held: held{string(kv.GetValue()), kv.GetModRevision(), kv.GetCreateRevision(), kv.GetVersion()}}
	if p := ev.PrevKv; p != nil {
		d.Prev = &held{string(p.GetValue()), p.GetModRevision(), p.GetCreateRevision(), p.GetVersion()}
	}
	return json.Marshal(map[string]any{
		"specversion": "1.0", "id": messageID(ev), "source": "/etcd/test",
		"type": "keyhook.etcd.put", "subject": d.Key, "time": time.Now().UTC(), "sequence": fmt.Sprint(kv.GetModRevision()),
		"datacontenttype": "application/json", "data": d,
	})
}

func messageID(ev *clientv3.Event) string {
	return fmt.Sprintf("%d-%x", ev.Kv.GetModRevision(), ev.Kv.GetKey())
}
