package known

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register has the sizes and errors of all files read at each scrape.
func (k *Known) register(reg prometheus.Registerer) error {
	for name, file := range map[string]interface {
		Len() int
		Errors() uint64
	}{"database": k.Database, "bad": k.Bad, "memory": k.memory} {
		label := prometheus.Labels{"file": name}
		for _, collector := range []prometheus.Collector{
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "weir_known_fingerprints", ConstLabels: label,
				Help: "Fingerprints in the database of programs, on the list of bad ones, and in the memory of this network's.",
			}, func() float64 { return float64(file.Len()) }),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "weir_fingerprint_file_errors_total", ConstLabels: label,
				Help: "Times that a file of fingerprints was found damaged or not valid, or could not be read or written.",
			}, func() float64 { return float64(file.Errors()) }),
		} {
			if err := reg.Register(collector); err != nil {
				return fmt.Errorf("register the metrics of known fingerprints: %w", err)
			}
		}
	}
	return nil
}
