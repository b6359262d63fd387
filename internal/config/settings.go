// Package config turns the command line and the environment into Settings. One struct says everything about a setting:
// its type, its flag, its variable, its default, its limits and its help. The package reads no global state: arguments,
// environment and output are handed in.
package config

import (
	"time"

	"go.uber.org/zap/zapcore"
)

// Settings is what the agent is told to do: every value is present and within its limits.
//
// A field's tags are what is known of its setting: the variable (var), the default, the least and the greatest value
// (min, max), the name of its kind where the Go type does not tell it (type), which commands but "weir run" have it too
// (replay, unpin), and the help. The flag is the field's name in kebab case, unless the tag name has another.
type Settings struct {
	Interface   Interfaces  `group:"Capture" var:"AGENT_INTERFACE" default:"auto" help:"Interfaces to watch, now and when they appear: auto is those of the default routes, all is every one but loopback. A name has to exist at the start, what a glob matches may come later."`
	Netns       Paths       `group:"Capture" var:"AGENT_NETNS" help:"Network namespaces whose interfaces are watched too, now and when they appear, by paths such as /run/netns/*; events name them. AGENT_INTERFACE is about each of them by itself. It takes CAP_SYS_ADMIN."`
	IngressHook IngressHook `group:"Capture" var:"AGENT_INGRESS_HOOK" default:"auto" help:"Where arriving packets are counted: auto is native XDP on hardware, else TCX, else clsact; tc is the last two. With xdp or xdp-generic, an offloaded super-packet that a virtual interface hands over whole counts as one."`
	BPFFilter   Filter      `group:"Capture" var:"AGENT_BPF_FILTER" replay:"" help:"Which packets are counted: those that match, as \"tcp port 443 or net 10.0.0.0/8\"; unset, all. It is applied in the kernel, to the frame as on the wire; a port is in no fragment but the first. If it looks for VLAN tags, auto takes tc: with xdp, it does not see those that the network card takes out."`
	Sampling    uint32      `group:"Capture" var:"AGENT_SAMPLING" replay:"" default:"1" min:"1" max:"1000000" help:"One in so many packets is counted, at random; events carry the rate, and their counts are of the packets that were."`
	Zones       Zones       `group:"Capture" var:"AGENT_ZONES" replay:"" default:"none" help:"vlan keeps connections apart that are equal but for their VLAN, and events name it. Of an interface and the VLANs on it, watch one only."`
	Decap       Decap       `group:"Capture" var:"AGENT_DECAP" replay:"" default:"none" help:"Tunnels of which the contents are counted, each connection in its tunnel, which events name, up to two in one another; of gre, IP and Ethernet, and erspan for what a switch mirrors in it. Of a tunnel's interface and the one below it, watch one only."`

	FlowShape      FlowShape     `group:"Flows" var:"AGENT_FLOW_SHAPE" replay:"" default:"flow" help:"What an event tells of: flow is one direction of a connection, connection is both."`
	MaxFlows       uint32        `group:"Flows" var:"AGENT_MAX_FLOWS" replay:"" default:"262144" min:"1024" max:"16777216" help:"Connections that the kernel's map is made for. Of so many that come together, about one in a million finds no room and has another one evicted, which is counted; up to a quarter more fit, of which more do."`
	HighWater      int           `group:"Flows" var:"AGENT_HIGH_WATER" replay:"" default:"80" min:"1" max:"100" help:"Above so many percent of AGENT_MAX_FLOWS, the map is looked through up to ten times a second, connections of a single packet end after 1s, and then the idle timeouts are halved, step by step, down to 1s. Below three quarters of it they lengthen again. 100 is never."`
	TCPIdleTimeout time.Duration `group:"Flows" var:"AGENT_TCP_IDLE_TIMEOUT" replay:"" default:"60s" min:"100ms" max:"24h" help:"A TCP connection has ended when no packet came for so long. This and the next two are looked at every 2s, or less often if millions of flows make that long."`
	UDPIdleTimeout time.Duration `group:"Flows" var:"AGENT_UDP_IDLE_TIMEOUT" replay:"" default:"30s" min:"100ms" max:"24h" help:"The same for UDP and every other protocol."`
	ActiveTimeout  time.Duration `group:"Flows" var:"AGENT_ACTIVE_TIMEOUT" replay:"" default:"60s" min:"100ms" max:"24h" help:"A connection that goes on is reported in parts, each of about so long."`
	CloseLinger    time.Duration `group:"Flows" var:"AGENT_CLOSE_LINGER" replay:"" default:"1s" min:"0s" max:"1m" help:"How long a closed TCP connection waits for its last packets; after a reset, a third of it."`

	Fingerprints      Fingerprints  `group:"Fingerprints" var:"AGENT_FINGERPRINTS" replay:"" default:"ja4" help:"Which fingerprints events carry, with what goes along: names of servers, MSS and the like. All but ja4 and ja4_r are under FoxIO's licence, which is not for every use. all leaves out the raw forms, which end in _r and can be named beside it: all,ja4_r; ja4h_r has cookies in plain text. None has nothing looked into, and nothing of all that in events."`
	FingerprintDB     string        `group:"Fingerprints" name:"fingerprint-db" var:"AGENT_FINGERPRINT_DB" replay:"" type:"path" help:"File that names programs by their fingerprints: FoxIO's ja4plus-mapping.csv, or JSON as of ja4db.com. This and the next are read again when they change."`
	BadFingerprints   string        `group:"Fingerprints" var:"AGENT_BAD_FINGERPRINTS" replay:"" type:"path" help:"File of bad fingerprints: on each line a method, a fingerprint and a reason."`
	FingerprintMemory string        `group:"Fingerprints" var:"AGENT_FINGERPRINT_MEMORY" replay:"" type:"path" help:"File that remembers which fingerprints were seen on this network. Unset, they are remembered until weir ends. A replay reads it only, and without it knows of nothing new."`
	FingerprintLearn  time.Duration `group:"Fingerprints" var:"AGENT_FINGERPRINT_LEARN" default:"24h" min:"0s" max:"8760h" help:"How long after that memory began no fingerprint is called new."`
	FingerprintRate   uint32        `group:"Fingerprints" var:"AGENT_FINGERPRINT_RATE" default:"20000" min:"0" max:"10000000" help:"Pieces of packets, of up to 1500 bytes each, that each CPU copies for fingerprints in a second at most, what is more being counted; 0 is no limit."`

	EndpointURL   Endpoint      `group:"Delivery" var:"AGENT_ENDPOINT_URL" default:"stdout" help:"Where events go: to a Brain by HTTP POST, or one JSON object per line to standard output or a file."`
	BatchSize     int           `group:"Delivery" var:"AGENT_BATCH_SIZE" default:"500" min:"1" max:"100000" help:"Events per batch at most."`
	SendInterval  time.Duration `group:"Delivery" var:"AGENT_SEND_INTERVAL" default:"5s" min:"10ms" max:"1h" help:"A batch that is not full is sent after so long."`
	BatchFormat   BatchFormat   `group:"Delivery" var:"AGENT_BATCH_FORMAT" default:"auto" help:"How a batch is written for a Brain: auto is array, and single if the Brain answers 422 to the first array; a batch size of 1 means single."`
	Compression   Compression   `group:"Delivery" var:"AGENT_COMPRESSION" default:"none" help:"How a batch is compressed for a Brain."`
	QueueMaxBytes ByteSize      `group:"Delivery" var:"AGENT_QUEUE_MAX_BYTES" default:"64MiB" min:"1MiB" max:"64GiB" help:"Memory for events that wait to be delivered; what does not fit is in the spool only or, without one, dropped and counted."`

	QueueMaxAge     time.Duration `group:"Delivery" var:"AGENT_QUEUE_MAX_AGE" default:"0s" min:"0s" max:"8760h" help:"Events that wait for longer than this, in memory or on disk, are dropped and counted; 0 is no limit."`
	SendConcurrency int           `group:"Delivery" var:"AGENT_SEND_CONCURRENCY" default:"2" min:"1" max:"64" help:"Batches that are sent to a Brain at a time, each over a connection that is kept alive. One that takes single events into one database is not faster with more than two."`
	BacklogShare    int           `group:"Delivery" var:"AGENT_BACKLOG_SHARE" default:"80" min:"1" max:"99" help:"After an outage, of 100 batches so many are of the backlog, oldest first; the others are live ones, less than 2s old."`

	SpoolDir       string    `group:"Spool" var:"AGENT_SPOOL_DIR" type:"path" help:"Directory of the spool: every batch is written there and stays until the Brain has it, across restarts and crashes. Unset, events are in memory only."`
	SpoolMaxBytes  ByteSize  `group:"Spool" var:"AGENT_SPOOL_MAX_BYTES" default:"1GiB" min:"1MiB" max:"1024GiB" help:"Bound on the spool; what does not fit pushes out the oldest, which is counted."`
	SpoolSync      SpoolSync `group:"Spool" var:"AGENT_SPOOL_SYNC" default:"1s" help:"When batches are forced to the disk: always before the kernel's record of them is let go, never by weir, or every so often. A crash of the machine costs at most what came since; one of weir alone costs no batch that was complete."`
	QuarantineFile string    `group:"Spool" var:"AGENT_QUARANTINE_FILE" type:"path" help:"File that refused events are appended to, up to 64 MiB. Unset, it is quarantine.ndjson in the spool, or none without a spool."`

	TokenFile    string `group:"Credentials" var:"AGENT_TOKEN_FILE" type:"path" help:"File with the token that is sent to the Brain (Authorization: Bearer). This and the next three are read again when they change."`
	TLSCAFile    string `group:"Credentials" name:"tls-ca-file" var:"AGENT_TLS_CA_FILE" type:"path" help:"File with the certificates, in PEM format, of the authorities that may have signed the Brain's. Unset, those that the system trusts."`
	TLSCertFile  string `group:"Credentials" var:"AGENT_TLS_CERT_FILE" type:"path" help:"File with the client certificate and its chain, in PEM format."`
	TLSKeyFile   string `group:"Credentials" var:"AGENT_TLS_KEY_FILE" type:"path" help:"File with the client certificate's key, in PEM format."`
	InsecureHTTP bool   `group:"Credentials" var:"AGENT_INSECURE_HTTP" default:"false" help:"Whether a token, a password or a client certificate may be set for a Brain at a plain http:// URL on another host, where anybody on the way can read what is sent."`

	PinDir      string        `group:"Operation" var:"AGENT_PIN_DIR" unpin:"" type:"path" help:"A folder in a BPF file system, such as /sys/fs/bpf/weir, where the flow map and the programs stay when the agent ends, so that a restart has no gap. The kernel goes on counting meanwhile; weir unpin ends that."`
	StopTimeout time.Duration `group:"Operation" var:"AGENT_STOP_TIMEOUT" default:"10s" min:"100ms" max:"10m" help:"How long a stop may take to deliver what is left."`
	Hostname    string        `group:"Operation" var:"NODE_NAME" replay:"" type:"hostname" help:"This host's name in events. Unset, it is the system's."`
	Listen      string        `group:"Operation" var:"AGENT_LISTEN" default:"127.0.0.1:9478" type:"listen" help:"Address that serves /metrics, /healthz and /readyz."`
	LogLevel    zapcore.Level `group:"Operation" var:"AGENT_LOG_LEVEL" default:"info" help:"The least severe messages that are logged."`
	LogFormat   LogFormat     `group:"Operation" var:"AGENT_LOG_FORMAT" default:"auto" help:"How messages are logged: auto is console on a terminal, json elsewhere."`
}

// Paths are absolute paths, or globs of them (path/filepath.Match).
type Paths []string

// IngressHook is where packets that arrive are counted.
type IngressHook string

// The values of IngressHook.
const (
	IngressAuto       IngressHook = "auto"        // native XDP, else TCX, else clsact
	IngressXDP        IngressHook = "xdp"         // XDP in the driver
	IngressXDPGeneric IngressHook = "xdp-generic" // XDP in the kernel's stack, for drivers that have none
	IngressTC         IngressHook = "tc"          // TCX, else clsact
)

// Zones is what keeps equal connections apart.
type Zones string

// The values of Zones.
const (
	ZonesNone Zones = "none"
	ZonesVLAN Zones = "vlan" // the id of the outermost VLAN tag
)

// FlowShape is what one event tells of.
type FlowShape string

// The values of FlowShape.
const (
	ShapeFlow       FlowShape = "flow"       // one direction of a connection
	ShapeConnection FlowShape = "connection" // both directions
)

// BatchFormat is how a batch of events is written into request bodies.
type BatchFormat string

// The values of BatchFormat.
const (
	FormatAuto   BatchFormat = "auto"   // array, and single if the Brain answers 422 to the first
	FormatArray  BatchFormat = "array"  // one JSON array
	FormatNDJSON BatchFormat = "ndjson" // one JSON object per line
	FormatSingle BatchFormat = "single" // a request for each event
)

// Compression is how request bodies are compressed.
type Compression string

// The values of Compression.
const (
	CompressNone Compression = "none"
	CompressGzip Compression = "gzip"
	CompressZstd Compression = "zstd"
)

// SpoolSync is after how long what was spooled is forced to the disk, or one of its values.
type SpoolSync time.Duration

// The values of SpoolSync that are not times.
const (
	SyncAlways SpoolSync = 0  // at once
	SyncNever  SpoolSync = -1 // when the kernel sees fit
)

// LogFormat is how log messages are written.
type LogFormat string

// The values of LogFormat.
const (
	LogAuto    LogFormat = "auto" // console on a terminal, JSON elsewhere
	LogConsole LogFormat = "console"
	LogJSON    LogFormat = "json"
)

// ByteSize is a number of bytes.
type ByteSize int64
