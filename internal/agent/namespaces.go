package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/internal/datapath"
	"weir/internal/enrich"
	"weir/internal/netns"
	"weir/internal/telemetry"
)

// scanEvery is how often the paths of the namespaces are looked up: what is in /proc does not announce itself.
const scanEvery = 2 * time.Second

// namespaces watches the interfaces of other network namespaces, and follows namespaces that come and go.
type namespaces struct {
	attaching
	patterns []string
	own      netns.ID
	numbers  *numbers
	trouble  string        // what was wrong with the paths at the last look
	turn     chan struct{} // holds a token while a namespace's programs are loaded

	entered chan struct{} // closed once the first look is over, and everything that it found is attached

	mu      sync.Mutex // for readers beside Run
	watched map[netns.ID]*watched
	refused map[netns.ID]refusal
}

// watched is a namespace with a thread inside that attaches and detaches.
type watched struct {
	path        string
	number      uint8
	attachments *attachments
	stop        context.CancelFunc
	begun       chan struct{} // closed when its interfaces are attached
	ended       chan struct{}
	err         error // once ended is closed
}

// newNamespaces fails if a path leads to no namespace, or if weir may not enter one.
func newNamespaces(patterns []string, a attaching) (*namespaces, error) {
	own, err := netns.Own()
	if err != nil {
		return nil, err
	}
	s := &namespaces{
		attaching: a, patterns: patterns, own: own,
		refused: map[netns.ID]refusal{}, watched: map[netns.ID]*watched{},
		turn: make(chan struct{}, 1), entered: make(chan struct{}),
	}
	if len(patterns) > 0 {
		if _, err := s.find(); errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%w: the namespaces of other users' processes take CAP_SYS_PTRACE", err)
		} else if err != nil {
			return nil, err
		}
		if err := netns.Permitted(); err != nil {
			return nil, fmt.Errorf("watch other network namespaces (AGENT_NETNS): %w", err)
		}
	}
	return s, s.recall()
}

// recall has the numbers stand for what they stood for under the last process: flows that it left may carry them, also those of
// a namespace that is gone.
func (s *namespaces) recall() error {
	numbered, err := s.kernel.Numbered()
	if err != nil {
		return err
	}
	kept := make(map[uint64]uint8, len(numbered))
	for number, n := range numbered {
		kept[n.Cookie] = number
		s.node.Set(number, enrich.New(n.Name))
	}
	s.numbers = newNumbers(s.rested, kept)
	return nil
}

// find returns the namespaces that the patterns lead to, but for the agent's own, each by the first path to it.
func (s *namespaces) find() (map[netns.ID]netns.Found, error) {
	all := map[netns.ID]netns.Found{}
	var errs []error
	for _, pattern := range s.patterns {
		list, err := netns.Find(pattern)
		errs = append(errs, err)
		for _, found := range list {
			if _, known := all[found.ID]; !known && found.ID != s.own {
				all[found.ID] = found
			}
		}
	}
	return all, errors.Join(errs...)
}

// Run watches until ctx ends, and then detaches everywhere.
func (s *namespaces) Run(ctx context.Context) error {
	if len(s.patterns) == 0 {
		close(s.entered)
		return nil
	}
	s.scan(ctx)
	for _, w := range s.watched {
		select {
		case <-w.begun:
		case <-w.ended:
		}
	}
	close(s.entered)
	ticker := time.NewTicker(scanEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			s.scan(ctx)
		}
	}
	var errs []error
	for id := range s.watched { // all are stopping already
		errs = append(errs, s.leave(id))
	}
	return errors.Join(errs...)
}

// scan leaves the namespaces that no path leads to any more, and enters new ones.
func (s *namespaces) scan(ctx context.Context) {
	all, err := s.find()
	s.report(err)
	s.forgive(all)
	for id, w := range s.watched {
		if _, there := all[id]; !there {
			err := s.leave(id)
			s.log.Info("a network namespace went away", zap.String("netns", w.attachments.name), zap.Error(err))
			continue
		}
		select {
		case <-w.ended:
			s.refuse(all[id], s.leave(id))
		default:
		}
	}
	for id, found := range all {
		_, known := s.watched[id]
		if _, refused := s.refused[id]; known || refused {
			continue
		}
		if err := s.enter(ctx, found); err != nil {
			s.refuse(found, err)
		}
	}
}

// forgive forgets the refusals of namespaces that went away, or are to be tried again.
func (s *namespaces) forgive(all map[netns.ID]netns.Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.refused, func(id netns.ID, r refusal) bool {
		_, there := all[id]
		return !there || r.over()
	})
}

// report logs what is wrong with the paths, once.
func (s *namespaces) report(err error) {
	trouble := fmt.Sprint(err)
	if err != nil && trouble != s.trouble {
		s.log.Warn("network namespaces cannot be found", zap.Error(err))
	}
	s.trouble = trouble
}

func (s *namespaces) refuse(found netns.Found, err error) {
	s.mu.Lock()
	s.refused[found.ID] = refusal{name: found.Name(), err: err, at: time.Now()}
	s.mu.Unlock()
	s.metrics.namespacesFailed.Inc()
	s.log.Warn("a network namespace cannot be watched", zap.String("netns", found.Name()), zap.Error(err))
}

var errNumbers = errors.New("255 are watched, or were until a moment ago, which is as many as weir can tell apart")

func (s *namespaces) enter(ctx context.Context, found netns.Found) error {
	namespace, err := netns.Open(found)
	if err != nil {
		return err
	}
	number, err := s.number(namespace, found.Name())
	if err != nil {
		return errors.Join(err, namespace.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watched{
		path: found.Path, number: number, attachments: s.in(number, found.Name()), stop: stop,
		begun: make(chan struct{}), ended: make(chan struct{}),
	}
	s.mu.Lock()
	s.watched[found.ID] = w
	s.mu.Unlock()
	s.metrics.namespaces.Inc()
	s.log.Info("watching a network namespace", zap.String("netns", w.attachments.name), zap.String("path", w.path))
	go func() {
		defer close(w.ended)
		err := namespace.Do(func() error {
			err := s.begin(ctx, w.attachments)
			close(w.begun)
			return errors.Join(err, w.attachments.Run(ctx), w.attachments.end())
		})
		w.err = errors.Join(err, namespace.Close())
	}()
	return nil
}

// begin attaches in a namespace for the first time, which has its programs loaded. Namespaces take turns at that, and a stop does
// not wait for those whose turn has not come: loading cannot be interrupted, and hundreds may be in line.
func (s *namespaces) begin(ctx context.Context, a *attachments) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
		return a.relist(ctx)
	case <-ctx.Done():
		return nil
	}
}

// number finds a number for a namespace, and remembers it for the next process.
func (s *namespaces) number(n *netns.Namespace, name string) (uint8, error) {
	cookie, err := n.Cookie()
	if err != nil {
		return 0, err
	}
	number, ok := s.numbers.take(cookie)
	if !ok {
		return 0, errNumbers
	}
	if err := s.kernel.Number(number, datapath.Namespace{Cookie: cookie, Name: name}); err != nil {
		s.numbers.giveBack(number)
		return 0, err
	}
	return number, nil
}

// leave detaches everything in a namespace and forgets it. Flows that carry its number are handed over later.
func (s *namespaces) leave(id netns.ID) error {
	w := s.watched[id]
	w.stop()
	<-w.ended
	s.kernel.Forget(w.number)
	s.numbers.giveBack(w.number)
	s.metrics.namespaces.Dec()
	s.mu.Lock()
	delete(s.watched, id)
	s.mu.Unlock()
	return w.err
}

// checks reports the attachments in every namespace, and what cannot be watched, sorted.
func (s *namespaces) checks() (list []telemetry.Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watched {
		list = append(list, w.attachments.checks()...)
	}
	list = append(list, refusals("watch", "", slices.Collect(maps.Values(s.refused)))...)
	slices.SortFunc(list, func(a, b telemetry.Check) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// idleChecks reports the namespaces in which there is nothing to attach, sorted.
func (s *namespaces) idleChecks() (list []telemetry.Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watched {
		list = append(list, w.attachments.idleChecks()...)
	}
	slices.SortFunc(list, func(a, b telemetry.Check) int { return strings.Compare(a.Name, b.Name) })
	return list
}
