package agent

import (
	"math"
	"time"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/flow"
	"weir/internal/identify"
	"weir/internal/known"
)

// samplesOf returns what the kernel side copies of packets for fingerprints. With any there are handshakes too, which cost no
// sample.
func samplesOf(methods []flow.Method) (wanted datapath.Samples) {
	const hellos = datapath.SampleTLS | datapath.SampleQUIC
	for _, method := range methods {
		wanted |= datapath.SampleHandshakes
		switch method.Hashed() {
		case flow.JA4, flow.JA4S:
			wanted |= hellos
		case flow.JA4X:
			wanted |= hellos | datapath.SampleCertificates
		case flow.JA4H:
			wanted |= datapath.SampleHTTP
		case flow.JA4L, flow.JA4LS:
			wanted |= datapath.SampleQUIC | datapath.SampleQUICTimes
		case flow.JA4SSH:
			wanted |= datapath.SampleSSH
		case flow.JA4D, flow.JA4D6:
			wanted |= datapath.SampleDHCP
		}
	}
	return wanted
}

func knownConfig(s config.Settings) known.Config {
	return known.Config{
		DatabasePath: s.FingerprintDB, BadPath: s.BadFingerprints, MemoryPath: s.FingerprintMemory, Learn: s.FingerprintLearn,
	}
}

// replayLearn returns how long the memory learns in a replay: a capture by itself does not tell what is new, the file does.
func replayLearn(s config.Settings) time.Duration {
	if s.FingerprintMemory == "" {
		return math.MaxInt64
	}
	return math.MinInt64
}

func identifyConfig(s config.Settings, k *known.Known) identify.Config {
	const slack = 30 * time.Second // a walk of the largest map, and a slow Brain
	return identify.Config{
		Methods: s.Fingerprints, Connections: connectionsKnown(s), Known: k,
		TCPIdle: s.ActiveTimeout + s.TCPIdleTimeout + slack, OtherIdle: s.ActiveTimeout + s.UDPIdleTimeout + slack,
	}
}

// connectionsKnown returns of how many connections fingerprints are known at a time.
func connectionsKnown(s config.Settings) int {
	const share = 4 // of the flows in the kernel's map: most are never sampled, or soon over
	return int(s.MaxFlows / share)
}
