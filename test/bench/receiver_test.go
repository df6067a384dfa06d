package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiving marks the process that is the receiver.
const receiving = "KEYHOOK_BENCH_RECEIVER"

// samples is how many bodies the receiver keeps for the bare client to post.
const samples = 1000

// stats are what the receiver has seen since it was reset.
type stats struct {
	Count       int             `json:"count"`
	First, Last time.Time       //
	Latencies   []time.Duration `json:"latencies"` // of values that begin with a stamp
	Samples     [][]byte        `json:"samples"`
}

// rate returns the requests a second between the first and the last.
func (s *stats) rate() float64 { return float64(s.Count-1) / s.Last.Sub(s.First).Seconds() }

// counter is the receiver: it accepts everything as quickly as it can.
type counter struct {
	mu      sync.Mutex
	arrived *sync.Cond
	stats
}

// receive is the receiver's process. It ends with its standard input.
func receive() int {
	c := &counter{}
	c.arrived = sync.NewCond(&c.mu)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /in", c.in)
	mux.HandleFunc("POST /slow", slow)
	mux.HandleFunc("GET /stats", c.report)
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("http://" + listener.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, http.Serve(listener, mux))
	return 1
}

func (c *counter) in(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	now := time.Now()
	w.WriteHeader(http.StatusNoContent)
	put, stamped := stamp(body)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Count++; c.Count == 1 {
		c.First = now
	}
	c.Last = now
	if stamped {
		c.Latencies = append(c.Latencies, now.Sub(put))
	}
	if len(c.Samples) < samples {
		c.Samples = append(c.Samples, body)
	}
	c.arrived.Broadcast()
}

// slow accepts everything after a second.
func slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(time.Second):
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

// stamped returns a value that says when it was put.
func stamped(now time.Time) string { return fmt.Sprintf("@%d@%-*d", now.UnixNano(), valueSize-21, 0) }

func stamp(body []byte) (time.Time, bool) {
	_, rest, ok := bytes.Cut(body, []byte(`"value":"@`))
	if !ok {
		return time.Time{}, false
	}
	digits, _, _ := bytes.Cut(rest, []byte("@"))
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return time.Unix(0, n), err == nil
}

// report waits until as many requests have come as are asked for, tells what
// was seen and forgets it.
func (c *counter) report(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	for c.Count < n {
		c.arrived.Wait()
	}
	seen := c.stats
	c.stats = stats{}
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(&seen)
}

// receiver is the receiver as the benchmarks see it.
type receiver struct {
	url    string
	client *http.Client
}

func startReceiver(b *testing.B) *receiver {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), receiving+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &receiver{url: strings.TrimSpace(url), client: &http.Client{}}
}

// after waits for n requests and returns what was seen since the last call.
func (r *receiver) after(b *testing.B, n int) *stats {
	b.Helper()
	resp, err := r.client.Get(fmt.Sprintf("%s/stats?n=%d", r.url, n))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var s stats
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		b.Fatal(err)
	}
	return &s
}
