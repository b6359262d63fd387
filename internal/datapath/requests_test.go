package datapath

import (
	"bytes"
	"slices"
	"testing"

	"weir/internal/testnet"
)

// Requests of HTTP/1.
var (
	getRequest  = []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	postHead    = []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n")
	postBody    = make([]byte, 1000)
	postRequest = slices.Concat(postHead, postBody)
)

// requestStreams has requests that begin and end in one segment each, or never end.
func requestStreams() []streamRow {
	get, post := getRequest, postRequest
	upload := []step{says(false, 0, post)}
	for range 5 {
		upload = append(upload, says(false, len(post)+1000*(len(upload)-1), postBody))
	}
	at := len(post) + 5000
	bare := []byte("GET / HTTP/1.1\nHost: a\n\n")
	long := slices.Concat([]byte("GET / HTTP/1.1\r\nCookie: "), bytes.Repeat([]byte("\r\nx\r"), 2100))
	var endless []sampled
	for at := 0; at < 8192; at += 1400 {
		endless = append(endless, sampled{false, uint32(at), long[at:min(at+1400, 8192)]})
	}
	return []streamRow{
		{
			"two requests",
			opened(says(false, 0, get), says(true, 0, []byte("HTTP/1.1 200 OK\r\n\r\n")), says(false, len(get), get)),
			[]sampled{{false, 0, get}, {false, uint32(len(get)), get}},
		},
		{
			"an upload, and a request after it", opened(append(upload, says(false, at, get))...),
			[]sampled{{false, 0, postHead}, {false, uint32(at), get}},
		},
		{
			"lines without CR", opened(says(false, 0, slices.Concat(bare, postBody)), says(false, len(bare)+1000, get)),
			[]sampled{{false, 0, bare}, {false, uint32(len(bare) + 1000), get}},
		},
		{
			"two requests and a half in a segment",
			opened(says(false, 0, slices.Concat(get, get, get[:20])), says(false, 2*len(get)+20, slices.Concat(get[20:], postBody))),
			[]sampled{
				{false, 0, get},
				{false, uint32(len(get)), get},
				{false, uint32(2 * len(get)), get[:20]},
				{false, uint32(2*len(get) + 20), get[20:]},
			},
		},
		{"a head without end", opened(inPieces(long, 1400)...), endless},
		manyRequests(),
		requestsWithoutEnd(),
		{"a method only", opened(says(false, 0, []byte("GETTY"))), nil},
		{"an SSH banner", opened(says(true, 0, []byte("SSH-2.0-x\r\n")), says(false, 0, []byte("SSH-2.0-y\r\n"))), []sampled{
			{true, 0, []byte("SSH-2.0-x\r\n")},
		}},
	}
}

// manyRequests has more requests than what is copied of another stream, and many acknowledgements behind each.
func manyRequests() streamRow {
	long := slices.Concat([]byte("GET / HTTP/1.1\r\nCookie: "), bytes.Repeat([]byte{'x'}, 1200), []byte("\r\n\r\n"))
	row := streamRow{name: "many long requests", steps: opened()}
	for at := 0; at < 20*len(long); at += len(long) {
		row.steps = append(row.steps, says(false, at, long))
		row.want = append(row.want, sampled{false, uint32(at), long})
		for range 100 {
			row.steps = append(row.steps, step{false, uint32(1 + at + len(long)), testnet.ACK, nil})
		}
	}
	return row
}

// requestsWithoutEnd has more requests than are copied of an end, two in a segment.
func requestsWithoutEnd() streamRow {
	const most = 100
	row := streamRow{name: "requests without end", steps: opened()}
	for n := range most + 10 {
		at := n * len(getRequest)
		if n%2 == 1 { // so the last one that is copied is the first of its segment
			row.steps = append(row.steps, says(false, at, slices.Concat(getRequest, getRequest)))
		} else if n == 0 {
			row.steps = append(row.steps, says(false, 0, getRequest))
		}
		if n < most {
			row.want = append(row.want, sampled{false, uint32(at), getRequest})
		}
	}
	return row
}

// requestPieces has the heads of requests in several segments, and in any order.
func requestPieces() []streamRow {
	get, post, end := getRequest, postRequest, len(postHead)
	rest := len(post)
	return []streamRow{
		{"a head in two segments", opened(says(false, 0, get[:18]), says(false, 18, get[18:]), says(false, len(get), postBody)), []sampled{
			{false, 0, get[:18]}, {false, 18, get[18:]},
		}},
		{
			"an upload, cut in the end of the head",
			opened(says(false, 0, post[:end-3]), says(false, end-3, post[end-3:end-2]), says(false, end-2, post[end-2:])),
			[]sampled{{false, 0, post[:end-3]}, {false, uint32(end - 3), post[end-3 : end-2]}, {false, uint32(end - 2), post[end-2 : end]}},
		},
		{
			"the last segment before its turn",
			opened(says(false, 0, post[:18]), says(false, 30, post[30:]), says(false, 18, post[18:30]),
				says(false, rest, postBody), says(false, rest+1000, get)),
			[]sampled{
				{false, 0, post[:18]}, {false, 30, post[30:end]}, {false, 18, post[18:30]}, {false, uint32(rest + 1000), get},
			},
		},
		{
			"cut in the end of the head, the last segment before its turn", // what it begins with may be the end of any line
			opened(says(false, 0, post[:18]), says(false, end-2, post[end-2:]), says(false, 18, post[18:end-2]), says(false, rest, get)),
			[]sampled{
				{false, 0, post[:18]}, {false, uint32(end - 2), post[end-2:]}, {false, 18, post[18 : end-2]}, {false, uint32(rest), get},
			},
		},
		{
			"sent again",
			opened(says(false, 0, post[:end-2]), says(false, 0, post[:end-2]), says(false, end-2, post[end-2:]), says(false, rest, get)),
			[]sampled{
				{false, 0, post[:end-2]}, {false, 0, post[:end-2]}, {false, uint32(end - 2), post[end-2 : end]}, {false, uint32(rest), get},
			},
		},
	}
}

// TestAskedOnce: what a client acknowledges behind a request is not looked at. Of a long answer that is nearly all that it sends.
func TestAskedOnce(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: allSamples})
	behind := uint32(1 + len(getRequest))
	steps := opened(says(false, 0, getRequest))
	for range 5 {
		steps = append(steps, step{false, behind, testnet.ACK, nil})
	}
	for _, s := range steps {
		k.run(t, kernelProgXdpIngress, s.frame(client, server), nil)
	}
	var acks uint8
	var slot uint32
	var value kernelStreams
	for all := k.coll.Maps[kernelMapStreams].Iterate(); all.Next(&slot, &value); {
		acks += value.End[0].Acks
	}
	if acks != 1 {
		t.Errorf("looked at %d acknowledgements, want that of the handshake", acks)
	}
}
