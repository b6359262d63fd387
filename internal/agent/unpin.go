package agent

import (
	"errors"

	"weir/internal/config"
	"weir/internal/datapath"
)

// Unpin removes what an agent that has ended left in the kernel. An agent that runs is in its way.
func Unpin(s config.Settings) error {
	if s.PinDir == "" {
		return errors.New("name the folder of pins: AGENT_PIN_DIR or --pin-dir")
	}
	return datapath.Unpin(s.PinDir)
}
