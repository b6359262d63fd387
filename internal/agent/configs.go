package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"weir/internal/collect"
	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/deliver"
	"weir/internal/flow"
	"weir/internal/spool"
)

// What the settings say to each part, but for fingerprints.

// requestTimeout bounds one POST to the Brain, which commits a database transaction for it.
const requestTimeout = 30 * time.Second

func deliverConfig(s config.Settings, build Build, stdout io.Writer) deliver.Config {
	cfg := deliver.Config{
		URL:            s.EndpointURL.URL,
		Path:           s.EndpointURL.Path,
		BatchSize:      s.BatchSize,
		SendInterval:   s.SendInterval,
		Format:         deliver.Format(s.BatchFormat),
		Compression:    deliver.Compression(s.Compression),
		QueueMaxBytes:  int64(s.QueueMaxBytes),
		MaxAge:         s.QueueMaxAge,
		Concurrency:    s.SendConcurrency,
		BacklogShare:   s.BacklogShare,
		QuarantinePath: s.QuarantineFile,
		RequestTimeout: requestTimeout,
		UserAgent:      "weir/" + build.Version,
		Credentials: deliver.Credentials{
			TokenPath: s.TokenFile, CAPath: s.TLSCAFile, CertPath: s.TLSCertFile, KeyPath: s.TLSKeyFile,
		},
		Stdout: stdout,
	}
	if s.SpoolDir == "" {
		return cfg
	}
	cfg.Spool = &spool.Config{Dir: s.SpoolDir, MaxBytes: int64(s.SpoolMaxBytes), Sync: spool.Policy(s.SpoolSync)}
	if cfg.QuarantinePath == "" {
		cfg.QuarantinePath = filepath.Join(s.SpoolDir, "quarantine.ndjson")
	}
	return cfg
}

func datapathConfig(s config.Settings) datapath.Config {
	return datapath.Config{
		MaxFlows: s.MaxFlows, Sampling: s.Sampling, VLANZones: s.Zones == config.ZonesVLAN, Decap: s.Decap,
		Filter: s.BPFFilter.Program, Samples: samplesOf(s.Fingerprints), SampleRate: s.FingerprintRate,
	}
}

func collectConfig(s config.Settings) (collect.Config, error) {
	hostname := s.Hostname
	if hostname == "" {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return collect.Config{}, fmt.Errorf("find the host's name (or set NODE_NAME): %w", err)
		}
	}
	return collect.Config{
		Limits: flow.Limits{
			TCPIdle: s.TCPIdleTimeout, OtherIdle: s.UDPIdleTimeout, Active: s.ActiveTimeout, Linger: s.CloseLinger,
		},
		Connections: s.FlowShape == config.ShapeConnection,
		MaxFlows:    int(s.MaxFlows),
		HighWater:   s.HighWater,
		Hostname:    hostname,
	}, nil
}
