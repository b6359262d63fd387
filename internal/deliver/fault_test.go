package deliver

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/internal/testbrain"
)

// The tests named F with a number are of the faults that delivery must survive; those of the disk and of the agent itself
// are in fault_local_test.go. F12 (killed), F14 (a damaged disk) and F19 (a second agent) are package spool's, and package
// e2e kills a whole agent.

func TestF01ConnectionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testbrain.Options{}, nil)
		r.brain.Stop(t)
		r.addFor(600)
		if n := r.network.dialled(); n < 60 || n > 240 {
			t.Errorf("%d connections tried in 10 minutes, want one every 5 s or so", n)
		}
		r.brain.Start(t)
		time.Sleep(maxBackoff)
		synctest.Wait()
		r.wantAll(t, 0)
		r.finish(t)
		wantBooks(t, r.Deliverer, books{delivered: 6000, batchDelivered: 600, retryConnection: readBooks(r.Deliverer).retryConnection})
	})
}

func TestF02NoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Bool
		r := newRig(t, testbrain.Options{Answer: func(*testbrain.Request) *testbrain.Answer {
			if silent.Load() {
				return &testbrain.Answer{Delay: time.Hour}
			}
			return nil
		}}, func(cfg *Config) { cfg.Concurrency = 4 })
		r.addFor(2)
		silent.Store(true)
		r.addFor(60)
		goroutines, requests := runtime.NumGoroutine(), len(r.brain.Requests())
		r.addFor(300)
		if n := runtime.NumGoroutine(); n > goroutines+15 {
			t.Errorf("%d goroutines, and %d five minutes before", n, goroutines)
		}
		if n := len(r.brain.Requests()) - requests; n > 30 {
			t.Errorf("%d requests in 5 minutes, want one at a time, each for 10 s", n)
		}
		silent.Store(false)
		time.Sleep(time.Minute)
		r.wantAll(t, 0)
		r.finish(t)
	})
}

func TestF03CutAfterAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
			if request.Number <= 10 {
				return &testbrain.Answer{Cut: true, Store: true}
			}
			return nil
		}}, nil)
		r.add(20)
		time.Sleep(5 * time.Minute)
		r.wantAll(t, 100)
		bodies := map[string][32]byte{}
		for _, request := range r.brain.Requests() {
			key := request.Header.Get("Idempotency-Key")
			if body, ok := bodies[key]; ok && body != request.Body {
				t.Errorf("%s was sent with another body", key)
			}
			bodies[key] = request.Body
		}
		if len(bodies) != 2 {
			t.Errorf("%d keys for 2 batches", len(bodies))
		}
		r.finish(t)
	})
}

func TestF04RetryAfter(t *testing.T) {
	date := func(after time.Duration) func() string {
		return func() string { return time.Now().Add(after).UTC().Format(http.TimeFormat) }
	}
	text := func(text string) func() string { return func() string { return text } }
	tests := []struct {
		name     string
		value    func() string
		from, to time.Duration
	}{
		{"seconds", text("60"), time.Minute, 68 * time.Second},
		{"date", date(time.Minute), 59 * time.Second, 68 * time.Second},
		{"past", date(-time.Hour), 0, minBackoff},
		{"garbage", text("soon"), 0, minBackoff},
		{"decades", text("1000000000"), 5 * time.Minute, 338 * time.Second},
	}
	for _, test := range tests {
		for _, status := range []int{429, 503} {
			t.Run(fmt.Sprint(test.name, status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var at [2]time.Time
					r := newRig(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
						at[request.Number-1] = time.Now()
						if request.Number == 1 {
							return &testbrain.Answer{Status: status, Header: http.Header{"Retry-After": {test.value()}}}
						}
						return nil
					}}, nil)
					r.add(10)
					time.Sleep(6 * time.Minute)
					r.wantAll(t, 0)
					if wait := at[1].Sub(at[0]); wait < test.from || wait > test.to {
						t.Errorf("waited %s, want %s to %s", wait, test.from, test.to)
					}
					r.finish(t)
				})
			})
		}
	}
}

func TestF05RetriedUntilAccepted(t *testing.T) {
	for _, status := range []int{408, 500, 502, 504} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const failures = 500
				r := newRig(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
					if request.Number <= failures {
						return &testbrain.Answer{Status: status}
					}
					return nil
				}}, nil)
				r.add(20)
				time.Sleep(failures * maxBackoff)
				r.wantAll(t, 0)
				if got := readBooks(r.Deliverer); got.retryServer+got.retryTimeout != failures {
					t.Errorf("books: %+v", got)
				}
				r.finish(t)
			})
		})
	}
}

func TestF05RetriedUntilTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		r := newRig(t, testbrain.Options{Answer: func(*testbrain.Request) *testbrain.Answer {
			if up.Load() {
				return nil
			}
			return &testbrain.Answer{Status: 500}
		}}, func(cfg *Config) { cfg.MaxAge = time.Hour })
		r.add(100)
		time.Sleep(59 * time.Minute)
		if got := readBooks(r.Deliverer); got.held != 100 {
			t.Errorf("books: %+v, want all held", got)
		}
		time.Sleep(2 * time.Minute)
		r.add(10)
		up.Store(true)
		time.Sleep(time.Minute)
		if got := readBooks(r.Deliverer); got.expired != 100 || got.delivered != 10 || got.held != 0 {
			t.Errorf("books: %+v, want 100 expired", got)
		}
		r.finish(t)
	})
}

func TestF06RefusedIsPutAside(t *testing.T) {
	for _, status := range []int{400, 422} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
					if request.Number == 2 {
						return &testbrain.Answer{Status: status}
					}
					return nil
				}}, nil)
				r.add(30)
				synctest.Wait()
				wantBooks(t, r.Deliverer, books{delivered: 20, rejected: 10, quarantined: 10, batchDelivered: 2, batchDropped: 1})
				content, err := os.ReadFile(r.cfg.QuarantinePath)
				if err != nil || bytes.Count(content, []byte{'\n'}) != 10 || r.brain.Received() != 20 {
					t.Errorf("%d events put aside (%v), %d accepted", bytes.Count(content, []byte{'\n'}), err, r.brain.Received())
				}
				for _, event := range r.brain.Events() {
					if bytes.Contains(content, []byte(event.EventID)) {
						t.Errorf("%s was accepted and put aside", event.EventID)
					}
				}
				r.finish(t)
			})
		})
	}
}

func TestF07TooLargeIsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 2000 // bytes, less than four events
		r := newRig(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
			if size, _ := strconv.Atoi(request.Header.Get("Content-Length")); size > limit {
				return &testbrain.Answer{Status: http.StatusRequestEntityTooLarge}
			}
			return nil
		}}, nil)
		r.add(5)
		large := testEvent(5)
		large.Hostname = strings.Repeat("h", limit)
		r.Deliverer.Add(large)
		r.added++
		r.add(14)
		synctest.Wait()
		got := readBooks(r.Deliverer)
		if got.delivered != 19 || got.tooLarge != 1 || got.quarantined != 1 || got.batchPartial != 1 || got.batchDelivered != 1 {
			t.Errorf("books: %+v", got)
		}
		keys := map[string]bool{}
		for _, request := range r.brain.Requests() {
			keys[request.Header.Get("Idempotency-Key")] = true
		}
		if len(keys) != len(r.brain.Requests()) || r.brain.Received() != 19 {
			t.Errorf("%d keys of %d requests, %d events accepted", len(keys), len(r.brain.Requests()), r.brain.Received())
		}
		r.finish(t)
	})
}

func TestF08TokenIsReadAgain(t *testing.T) {
	for _, status := range []int{401, 403} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			path := t.TempDir() + "/token"
			write := func(token string) {
				if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("old\n")
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
					if request.Header.Get("Authorization") != "Bearer the-new-one" {
						return &testbrain.Answer{Status: status}
					}
					return nil
				}}, func(cfg *Config) { cfg.Credentials.TokenPath = path })
				r.addFor(120)
				if ok, reason := r.Status(); ok || !strings.Contains(reason, strconv.Itoa(status)) {
					t.Errorf("Status: %v, %s", ok, reason)
				}
				if n := len(r.brain.Requests()); n < 2 || n > 10 {
					t.Errorf("%d requests in 2 minutes, want two and then one every 15 s or more", n)
				}
				write("not a token\n") // the old one stays in use
				time.Sleep(time.Minute)
				write("the-new-one")
				time.Sleep(repairWait + maxBackoff)
				r.wantAll(t, 0)
				r.finish(t)
				if text := fmt.Sprint(r.logs.All()); strings.Contains(text, "not a token") || !strings.Contains(text, "using the old ones") {
					t.Errorf("logged: %s", text)
				}
			})
		})
	}
}

// Redirects, and bodies that do not end, have tests of their own.
func TestF09WebPageIsNoAnswer(t *testing.T) {
	for _, media := range []string{"text/html", "Text/HTML; charset=utf-8", "text/html; =", "application/xhtml+xml"} {
		t.Run(media, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, testbrain.Options{Answer: func(request *testbrain.Request) *testbrain.Answer {
					if request.Number <= 3 {
						return &testbrain.Answer{Status: 200, Header: http.Header{"Content-Type": {media}}, Body: "<html>log in</html>"}
					}
					return nil
				}}, nil)
				r.add(10)
				time.Sleep(time.Minute)
				r.wantAll(t, 0)
				r.finish(t)
				wantBooks(t, r.Deliverer, books{delivered: 10, batchDelivered: 1, retryServer: 3})
			})
		})
	}
}

// A Brain that is elsewhere, deployed anew or behind a login has said nothing about the events.
func TestF09OtherStatusesKeepTheEvents(t *testing.T) {
	for _, status := range []int{302, 307, 402, 404, 405, 407, 409, 410, 425, 451} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var up atomic.Bool
				r := newRig(t, testbrain.Options{Answer: func(*testbrain.Request) *testbrain.Answer {
					if up.Load() {
						return nil
					}
					return &testbrain.Answer{Status: status, Header: http.Header{"Location": {"https://login.example/"}}}
				}}, nil)
				r.addFor(120)
				if ok, reason := r.Status(); ok || !strings.Contains(reason, strconv.Itoa(status)) {
					t.Errorf("Status: %v, %s", ok, reason)
				}
				if n := len(r.brain.Requests()); status != 425 && n > 10 {
					t.Errorf("%d requests in 2 minutes, want two and then one every 15 s or more", n)
				}
				up.Store(true)
				time.Sleep(repairWait + maxBackoff)
				r.wantAll(t, 0)
				r.finish(t)
				got := readBooks(r.Deliverer)
				if got.delivered != 1200 || got.retryAuth+got.retryThrottled+got.retryRedirect+got.retryStatus == 0 {
					t.Errorf("books: %+v", got)
				}
			})
		})
	}
}

func TestF10CertificatesAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ours, theirs := newAuthority(t), newAuthority(t)
		var served atomic.Pointer[tls.Certificate]
		served.Store(theirs.issue(t, -time.Minute, 24*time.Hour))
		network := new(network)
		listen := func(a, b string) (net.Listener, error) {
			l, err := network.listen(a, b)
			return tls.NewListener(l, &tls.Config{
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return served.Load(), nil },
				ClientAuth:     tls.RequireAndVerifyClientCert,
				ClientCAs:      ours.pool,
			}), err
		}
		files := Credentials{CAPath: dir + "/ca", CertPath: dir + "/cert", KeyPath: dir + "/key"}
		writePEM(t, files.CAPath, "CERTIFICATE", ours.certificate.Raw)
		writePair(t, files, ours.issue(t, -time.Hour, -time.Minute)) // expired
		r := newRigOn(t, network, testbrain.Options{Listen: listen}, func(cfg *Config) {
			cfg.Credentials = files
			cfg.URL.Scheme = "https"
		})
		wantFailing := func(why string) {
			t.Helper()
			r.addFor(60)
			if ok, reason := r.Status(); ok || !strings.Contains(reason, why) || r.brain.Received() > 0 {
				t.Errorf("Status: %v, %s, want %s", ok, reason, why)
			}
		}
		wantFailing("unknown authority")
		served.Store(ours.issue(t, -time.Hour, -time.Minute))
		wantFailing("expired")
		served.Store(ours.issue(t, -time.Minute, 24*time.Hour))
		wantFailing("certificate") // ours is what has expired now
		if err := os.WriteFile(files.CertPath, []byte("half a file"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantFailing("certificate")
		writePair(t, files, ours.issue(t, -time.Minute, 24*time.Hour))
		time.Sleep(time.Minute)
		r.wantAll(t, 0)
		r.finish(t)
	})
}

func TestF11NameGoneThenMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Bool
		r := newRig(t, testbrain.Options{Answer: func(*testbrain.Request) *testbrain.Answer {
			if silent.Load() {
				return &testbrain.Answer{Delay: time.Hour}
			}
			return nil
		}}, nil)
		r.brain.Stop(t)
		r.network.fail(&net.DNSError{Err: "no such host", Name: "brain", IsNotFound: true})
		r.addFor(60)
		if _, reason := r.Status(); !strings.Contains(reason, "no such host") {
			t.Errorf("Status: %s", reason)
		}
		r.network.fail(nil)
		r.brain.Start(t)
		time.Sleep(maxBackoff)
		r.wantAll(t, 0)

		// At another address now, while the connection to the old one is still open.
		silent.Store(true)
		moved := testbrain.New(t, testbrain.Options{Listen: r.network.listen})
		r.add(10)
		time.Sleep(time.Minute)
		if got := moved.Received(); got != 10 {
			t.Errorf("the Brain at the new address has %d events of 10", got)
		}
		r.finish(t)
	})
}
