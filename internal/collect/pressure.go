package collect

import (
	"time"

	"go.uber.org/zap"

	"weir/internal/flow"
)

// idleFloor is as short as pressure makes an idle timeout. A connection that answers is heard of within it, as a rule.
const idleFloor = time.Second

// pressedShare is sweepShare above the high mark. What a walk hands over costs up to four times as much in user space as in the
// kernel: so both together take a core at the most.
const pressedShare = 5

// sayEvery is how often a change of the level is logged at the most.
const sayEvery = 10 * time.Second

// pressure is what becomes of the limits, and of the pause between sweeps, when the map fills. Its level goes up by one when the
// map is first found above the high mark, and with each sweep that leaves it there: at level 1, connections of a single packet
// have idleFloor as their limit, and each further level halves the idle timeouts of the others, down to idleFloor. It goes down
// by one at a time, SweepEvery apart, while the map is below the low mark: three quarters of the high one.
type pressure struct {
	limits    flow.Limits // at level 0
	capacity  uint64      // connections, and so below
	high, low uint64
	above     bool // the high mark, at the last look
	most      int  // level, where every timeout is as short as it gets
	level     int
	changedNs uint64 // when the level did, by the monotonic clock

	saidLevel int // as logged last
	saidNs    uint64
}

func newPressure(cfg *Config) pressure {
	p := pressure{limits: cfg.Limits, capacity: uint64(cfg.MaxFlows), most: 1}
	p.high = p.capacity * uint64(cfg.HighWater) / 100
	p.low = p.high * 3 / 4
	for idle := max(cfg.Limits.TCPIdle, cfg.Limits.OtherIdle); idle > idleFloor; idle /= 2 {
		p.most++
	}
	return p
}

// update follows how many connections the map holds, at a time of the monotonic clock and perhaps just behind a sweep.
func (p *pressure) update(occupied, nowNs uint64, swept bool) {
	before := p.level
	p.above = occupied > p.high
	switch {
	case p.above && (p.level == 0 || swept):
		p.level = min(p.level+1, p.most)
	case occupied < p.low && p.level > 0 && nowNs >= p.changedNs+uint64(SweepEvery):
		p.level--
	}
	if p.level != before {
		p.changedNs = nowNs
	}
}

// limitsNow are those of the level.
func (p *pressure) limitsNow() flow.Limits {
	if p.level == 0 {
		return p.limits
	}
	shorten := func(idle time.Duration) time.Duration { return min(idle, max(idle>>(p.level-1), idleFloor)) }
	limits := p.limits
	limits.TCPIdle, limits.OtherIdle = shorten(limits.TCPIdle), shorten(limits.OtherIdle)
	limits.SingleIdle = idleFloor
	return limits
}

// pause is the time from the beginning of a sweep that spent so long in the kernel to that of the next.
func (p *pressure) pause(walked time.Duration) time.Duration {
	if p.above {
		return max(Look, pressedShare*walked)
	}
	return max(SweepEvery, sweepShare*walked)
}

// say logs the level if it is not the one that was logged last, unless that was just now.
func (p *pressure) say(log *zap.Logger, occupied, nowNs uint64) {
	if p.level == p.saidLevel || p.saidNs != 0 && nowNs < p.saidNs+uint64(sayEvery) {
		return
	}
	p.saidLevel, p.saidNs = p.level, nowNs
	severity, message := zap.WarnLevel, "the flow map fills: idle timeouts are shorter"
	if p.level == 0 {
		severity, message = zap.InfoLevel, "the flow map has room again: idle timeouts are as set"
	}
	limits := p.limitsNow()
	log.Log(severity, message,
		zap.Int("level", p.level), zap.Uint64("flows", occupied), zap.Uint64("capacity", p.capacity),
		zap.Duration("tcp_idle", limits.TCPIdle), zap.Duration("other_idle", limits.OtherIdle),
		zap.Duration("single_packet_idle", limits.SingleIdle))
}
