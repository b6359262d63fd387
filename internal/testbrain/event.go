package testbrain

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Event is a FlowEvent as it was received: the Brain's fields, then weir's own.
type Event struct {
	FlowID        string
	Timestamp     time.Time
	Interface     string
	Hostname      string
	Direction     string
	SrcIP         string
	DstIP         string
	SrcPort       string
	DstPort       string
	Protocol      string
	FlowDuration  float64 // seconds
	PacketCount   int64
	ByteCount     int64
	AvgPacketSize float64

	// The zero value, or nil, stands for a field that was left out.
	EventID            string
	StartTime          time.Time
	EndReason          string
	TCPFlags           uint16
	Initiator          *bool
	CommunityID        string
	SamplingRate       int64
	Netns              string
	ReversePacketCount *int64
	ReverseByteCount   *int64
	ReverseTCPFlags    *uint16

	Identity
}

// Identity is what an event says of who is talking: nothing of a field that was left out.
type Identity struct {
	JA4, JA4S, JA4T, JA4TS, JA4L, JA4LS string
	JA4H, JA4X, JA4SSH, JA4D, JA4D6     []string

	TLSServerName  string
	ALPN           string
	TLSVersion     string
	App            string
	KnownBad       bool
	NewFingerprint bool
	MSS            uint16
	Tunnel         string
	SSHSession     string
	HandshakeRTT   float64 // seconds
	Anomalies      []string
}

// fault is one entry of the "detail" that the Brain's framework answers with: what is wrong, and where.
type fault struct {
	Type string `json:"type"`
	Loc  []any  `json:"loc"`
	Msg  string `json:"msg"`
}

const (
	whitespace   = " \t\r\n"
	notObject    = "model_attributes_type"
	notObjectMsg = "Input should be a valid dictionary or object to extract fields from"
)

type field struct {
	name     string
	kind     string // as the faults call it
	required bool
	at       func(*Event) any // pointer to where the value belongs
}

var fields = []field{
	{"flow_id", "string", true, func(e *Event) any { return &e.FlowID }},
	{"timestamp", "datetime", true, func(e *Event) any { return &e.Timestamp }},
	{"interface", "string", true, func(e *Event) any { return &e.Interface }},
	{"hostname", "string", true, func(e *Event) any { return &e.Hostname }},
	{"direction", "string", true, func(e *Event) any { return &e.Direction }},
	{"src_ip", "string", true, func(e *Event) any { return &e.SrcIP }},
	{"dst_ip", "string", true, func(e *Event) any { return &e.DstIP }},
	{"src_port", "string", true, func(e *Event) any { return &e.SrcPort }},
	{"dst_port", "string", true, func(e *Event) any { return &e.DstPort }},
	{"protocol", "string", true, func(e *Event) any { return &e.Protocol }},
	{"flow_duration", "float", true, func(e *Event) any { return &e.FlowDuration }},
	{"packet_count", "int", true, func(e *Event) any { return &e.PacketCount }},
	{"byte_count", "int", true, func(e *Event) any { return &e.ByteCount }},
	{"avg_packet_size", "float", true, func(e *Event) any { return &e.AvgPacketSize }},

	{"event_id", "string", false, func(e *Event) any { return &e.EventID }},
	{"start_time", "datetime", false, func(e *Event) any { return &e.StartTime }},
	{"end_reason", "string", false, func(e *Event) any { return &e.EndReason }},
	{"tcp_flags", "int", false, func(e *Event) any { return &e.TCPFlags }},
	{"initiator", "bool", false, func(e *Event) any { return &e.Initiator }},
	{"community_id", "string", false, func(e *Event) any { return &e.CommunityID }},
	{"sampling_rate", "int", false, func(e *Event) any { return &e.SamplingRate }},
	{"netns", "string", false, func(e *Event) any { return &e.Netns }},
	{"reverse_packet_count", "int", false, func(e *Event) any { return &e.ReversePacketCount }},
	{"reverse_byte_count", "int", false, func(e *Event) any { return &e.ReverseByteCount }},
	{"reverse_tcp_flags", "int", false, func(e *Event) any { return &e.ReverseTCPFlags }},

	{"ja4", "string", false, func(e *Event) any { return &e.JA4 }},
	{"ja4s", "string", false, func(e *Event) any { return &e.JA4S }},
	{"ja4h", "list", false, func(e *Event) any { return &e.JA4H }},
	{"ja4x", "list", false, func(e *Event) any { return &e.JA4X }},
	{"ja4t", "string", false, func(e *Event) any { return &e.JA4T }},
	{"ja4ts", "string", false, func(e *Event) any { return &e.JA4TS }},
	{"ja4l", "string", false, func(e *Event) any { return &e.JA4L }},
	{"ja4ls", "string", false, func(e *Event) any { return &e.JA4LS }},
	{"ja4ssh", "list", false, func(e *Event) any { return &e.JA4SSH }},
	{"ja4d", "list", false, func(e *Event) any { return &e.JA4D }},
	{"ja4d6", "list", false, func(e *Event) any { return &e.JA4D6 }},
	{"tls_server_name", "string", false, func(e *Event) any { return &e.TLSServerName }},
	{"alpn", "string", false, func(e *Event) any { return &e.ALPN }},
	{"tls_version", "string", false, func(e *Event) any { return &e.TLSVersion }},
	{"app", "string", false, func(e *Event) any { return &e.App }},
	{"known_bad", "bool", false, func(e *Event) any { return &e.KnownBad }},
	{"new_fingerprint", "bool", false, func(e *Event) any { return &e.NewFingerprint }},
	{"mss", "int", false, func(e *Event) any { return &e.MSS }},
	{"tunnel", "string", false, func(e *Event) any { return &e.Tunnel }},
	{"ssh_session", "string", false, func(e *Event) any { return &e.SSHSession }},
	{"handshake_rtt", "float", false, func(e *Event) any { return &e.HandshakeRTT }},
	{"anomalies", "list", false, func(e *Event) any { return &e.Anomalies }},
}

var fieldIndex = func() map[string]int {
	index := map[string]int{}
	for i, f := range fields {
		index[f.name] = i
	}
	return index
}()

// parseBody reads the events of a request's body. Any fault makes the whole body refused.
func parseBody(body []byte, contentType string, single bool) ([]Event, []fault) {
	at := []any{"body"}
	if contentType == ndjson && single {
		return nil, []fault{{notObject, at, notObjectMsg}}
	}
	values, valid := [][]byte{body}, json.Valid(body) && utf8.Valid(body)
	list := !single && valid && bytes.TrimLeft(body, whitespace)[0] == '['
	switch {
	case contentType == ndjson:
		values, valid = lines(body)
		list = true
	case list:
		values = slices.Collect(children(body))
	}
	if !valid {
		return nil, []fault{{"json_invalid", at, "JSON decode error"}}
	}
	var faults []fault
	events := make([]Event, len(values))
	for i, value := range values {
		if list {
			at = []any{"body", i}
		}
		faults = append(faults, events[i].parse(value, at)...)
	}
	return events, faults
}

// lines takes newline-delimited JSON apart: each value stands on a line of its own, and ends it.
func lines(body []byte) (values [][]byte, valid bool) {
	for line := range bytes.Lines(body) {
		if !json.Valid(line) || !utf8.Valid(line) || line[len(line)-1] != '\n' {
			return nil, false
		}
		values = append(values, line)
	}
	return values, len(values) > 0
}

// parse reads one JSON value as strictly as the Brain's model does: no field is converted, none may be null, names are
// told apart by case, and fields without a meaning are passed over.
func (e *Event) parse(value []byte, at []any) []fault {
	if bytes.TrimLeft(value, whitespace)[0] != '{' {
		return []fault{{notObject, at, notObjectMsg}}
	}
	found := members(value)
	var faults []fault
	report := func(name, kind, msg string) {
		faults = append(faults, fault{kind, append(slices.Clip(at), name), msg})
	}
	for i, f := range fields {
		switch {
		case found[i] == nil && f.required:
			report(f.name, "missing", "Field required")
		case found[i] != nil && !read(found[i], f.at(e)):
			report(f.name, f.kind+"_type", "Input should be a valid "+f.kind)
		}
	}
	return faults
}

// members returns the values of an object's fields, in the order of fields; nil stands for one that is not there. The
// last of several of one name counts.
func members(object []byte) [][]byte {
	values := make([][]byte, len(fields))
	var name []byte
	for part := range children(object) {
		if name == nil {
			name = part
			continue
		}
		var text string
		read(name, &text)
		if i, ok := fieldIndex[text]; ok {
			values[i] = part
		}
		name = nil
	}
	return values
}

// children yields what a valid array or object consists of: values, or names and values in turn.
func children(container []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		rest := bytes.TrimLeft(container, whitespace)[1:]
		for {
			rest = bytes.TrimLeft(rest, whitespace+",:")
			if rest[0] == ']' || rest[0] == '}' {
				return
			}
			n := valueLen(rest)
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// valueLen returns the length of the value that b begins with; b is the rest of a valid array or object.
func valueLen(b []byte) int {
	if b[0] != '"' && b[0] != '[' && b[0] != '{' {
		return bytes.IndexAny(b, whitespace+",]}")
	}
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++ // what it escapes
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth == 0 && !quoted {
			return i + 1
		}
	}
	return len(b)
}

// read stores a JSON value where to points, and reports whether it is of that type. encoding/json would do, but takes
// several times as long, and takes null for anything.
func read(value []byte, to any) bool {
	var err error
	switch to := to.(type) {
	case *string:
		if value[0] != '"' {
			return false
		}
		if bytes.IndexByte(value, '\\') < 0 {
			*to = string(value[1 : len(value)-1])
			return true
		}
		err = json.Unmarshal(value, to)
	case *time.Time:
		*to, err = time.Parse(`"`+time.RFC3339+`"`, string(value)) // takes a fraction of a second too
	case *float64:
		*to, err = strconv.ParseFloat(string(value), 64)
	case *int64:
		*to, err = strconv.ParseInt(string(value), 10, 64)
	case **int64:
		*to = new(int64)
		return read(value, *to)
	case *uint16:
		var n uint64
		n, err = strconv.ParseUint(string(value), 10, 16)
		*to = uint16(n)
	case **uint16:
		*to = new(uint16)
		return read(value, *to)
	case *bool:
		*to = value[0] == 't'
		return value[0] == 't' || value[0] == 'f'
	case **bool:
		*to = new(bool)
		return read(value, *to)
	case *[]string:
		return readList(value, to)
	default:
		return false
	}
	return err == nil
}

// readList is read of an array of strings.
func readList(value []byte, to *[]string) bool {
	if value[0] != '[' {
		return false
	}
	for child := range children(value) {
		var text string
		if !read(child, &text) {
			return false
		}
		*to = append(*to, text)
	}
	return true
}
