package agent

import (
	"errors"
	"io/fs"
	"os"

	"weir/internal/config"
	"weir/internal/datapath"
)

// Unpin removes what an agent that has ended left in the kernel. An agent that runs is in its way. It says whether there was a
// folder of pins.
func Unpin(s config.Settings) (found bool, err error) {
	if s.PinDir == "" {
		return false, errors.New("name the folder of pins: AGENT_PIN_DIR or --pin-dir")
	}
	if _, err := os.Lstat(s.PinDir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, datapath.Unpin(s.PinDir)
}
