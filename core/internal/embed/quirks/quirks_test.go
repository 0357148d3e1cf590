package quirks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
)

// lines collects a log as JSON lines.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was logged since the last call, each line as "LEVEL message"
// with its attributes but the time.
func (l *lines) take(t *testing.T) (heads []string, attrs []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		heads = append(heads, fmt.Sprintf("%s %s", record["level"], record["msg"]))
		for _, key := range []string{"time", "level", "msg"} {
			delete(record, key)
		}
		attrs = append(attrs, record)
	}
	l.text.Reset()
	return heads, attrs
}

// bridge bridges the logs to one of the test and takes it back at its end.
func bridge(t *testing.T, level slog.Level, o LogOptions) *lines {
	t.Helper()
	before, hooks, output, logrusLevel := slog.Default(), logrus.StandardLogger().Hooks, logrus.StandardLogger().Out, logrus.GetLevel()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(os.Stderr)
		klog.ClearLogger()
		logrus.StandardLogger().ReplaceHooks(hooks)
		logrus.SetOutput(output)
		logrus.SetLevel(logrusLevel)
	})
	l := &lines{}
	if err := BridgeLogs(slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level})), o); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestKlog(t *testing.T) {
	l := bridge(t, slog.LevelDebug, LogOptions{})
	klog.InfoS("Starting controller", "name", "job")
	klog.Warning("it takes a while")
	klog.ErrorS(errors.New("conflict"), "Could not update")
	klog.V(2).InfoS("chatter")
	heads, attrs := l.take(t)
	want := []string{"DEBUG Starting controller", "DEBUG it takes a while", "INFO Could not update"}
	if diff := cmp.Diff(want, heads); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"source": "kubernetes", "name": "job"}, attrs[0]); diff != "" {
		t.Errorf("attributes: -want +got:\n%s", diff)
	}
	if attrs[2]["err"] != "conflict" || attrs[2]["source"] != "kubernetes" {
		t.Errorf("attributes of an error: %v", attrs[2])
	}

	l = bridge(t, slog.LevelDebug, LogOptions{Debug: true})
	klog.V(2).InfoS("chatter")
	klog.V(4).InfoS("more chatter")
	if heads, _ := l.take(t); len(heads) != 1 || heads[0] != "DEBUG chatter" {
		t.Errorf("with --debug: %q", heads)
	}
}

// TestKlogVerbosity wants what an operator asked for at the level that is
// shown, and no more.
func TestKlogVerbosity(t *testing.T) {
	l := bridge(t, slog.LevelInfo, LogOptions{Verbosity: 3})
	klog.V(3).InfoS("asked for")
	klog.V(4).InfoS("not asked for")
	klog.Background().V(3).Info("asked for by a logger")
	klog.Background().V(4).Info("not asked for by a logger")
	logrus.Warn("of containerd")
	heads, _ := l.take(t)
	if diff := cmp.Diff([]string{"INFO asked for", "INFO asked for by a logger"}, heads); diff != "" {
		t.Errorf("--v 3: -want +got:\n%s", diff)
	}
}

func TestKlogIsQuietByDefault(t *testing.T) {
	l := bridge(t, slog.LevelInfo, LogOptions{})
	klog.InfoS("Starting controller")
	klog.Warning("it takes a while")
	logrus.Warn("it takes a while")
	if heads, _ := l.take(t); len(heads) != 0 {
		t.Errorf("logged %q", heads)
	}
	klog.ErrorS(nil, "Could not update")
	logrus.Error("could not pull")
	if heads, _ := l.take(t); len(heads) != 2 {
		t.Errorf("logged %q, want both errors as info", heads)
	}
}

func TestLogrus(t *testing.T) {
	l := bridge(t, slog.LevelDebug, LogOptions{})
	logrus.WithFields(logrus.Fields{"id": "abc", "error": errors.New("gone"), "attempt": 3}).Error("remove container")
	logrus.WithField("id", "abc").Warn("slow")
	logrus.Info("started")
	logrus.Debug("chatter")
	heads, attrs := l.take(t)
	want := []string{"INFO remove container", "DEBUG slow", "DEBUG started"}
	if diff := cmp.Diff(want, heads); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"source": "containerd", "id": "abc", "error": "gone", "attempt": 3.0}, attrs[0]); diff != "" {
		t.Errorf("attributes: -want +got:\n%s", diff)
	}

	l = bridge(t, slog.LevelDebug, LogOptions{Debug: true})
	logrus.Debug("chatter")
	if heads, _ := l.take(t); len(heads) != 1 || heads[0] != "DEBUG chatter" {
		t.Errorf("with --debug: %q", heads)
	}
	if hooks := len(logrus.StandardLogger().Hooks[logrus.ErrorLevel]); hooks != 1 {
		t.Errorf("%d hooks after a second bridge: lines would be doubled", hooks)
	}
}

func TestLogrusAttributesAreInOrder(t *testing.T) {
	var text bytes.Buffer
	hook := logrusHook{slog.New(slog.NewTextHandler(&text, nil))}
	for range 20 {
		text.Reset()
		entry := &logrus.Entry{Level: logrus.ErrorLevel, Message: "m", Data: logrus.Fields{"d": 4, "a": 1, "c": 3, "b": 2}}
		if err := hook.Fire(entry); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), "a=1 b=2 c=3 d=4") {
			t.Fatalf("got %q", text.String())
		}
	}
}

func TestStandardLog(t *testing.T) {
	l := bridge(t, slog.LevelDebug, LogOptions{})
	log.Print("http: TLS handshake error")
	if heads, _ := l.take(t); len(heads) != 1 || heads[0] != "INFO http: TLS handshake error" {
		t.Errorf("got %q", heads)
	}
}

func TestDemoteKeepsAttributesAndGroups(t *testing.T) {
	l := &lines{}
	logger := slog.New(&demote{handler: slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})})
	logger.With("a", 1).WithGroup("g").Error("m", "b", 2)
	heads, attrs := l.take(t)
	if len(heads) != 1 || heads[0] != "INFO m" {
		t.Fatalf("got %q", heads)
	}
	if diff := cmp.Diff(map[string]any{"a": 1.0, "g": map[string]any{"b": 2.0}}, attrs[0]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLowered(t *testing.T) {
	for level, want := range map[slog.Level]slog.Level{
		slog.LevelError + 4: slog.LevelInfo, slog.LevelError: slog.LevelInfo,
		slog.LevelWarn: slog.LevelDebug, slog.LevelInfo: slog.LevelDebug, slog.LevelDebug: slog.LevelDebug,
		slog.LevelDebug - 4: slog.LevelDebug - 4,
	} {
		if got := (&demote{}).lowered(level); got != want {
			t.Errorf("%v becomes %v, want %v", level, got, want)
		}
	}
}

func TestPrependPath(t *testing.T) {
	t.Setenv("PATH", "/usr/bin")
	dir := t.TempDir()
	if err := PrependPath(dir); err != nil {
		t.Fatal(err)
	}
	if got := filepath.SplitList(os.Getenv("PATH")); len(got) != 2 || got[0] != dir || got[1] != "/usr/bin" {
		t.Errorf("PATH is %q", got)
	}
}

func TestForeignFlagsComeBack(t *testing.T) {
	all := pflag.CommandLine
	HideForeignFlags()
	HideForeignFlags() // again changes nothing
	if pflag.CommandLine.HasFlags() {
		t.Error("flags are left")
	}
	ShowForeignFlags()
	if pflag.CommandLine != all {
		t.Error("the set is not the one from before")
	}
	ShowForeignFlags()
	if pflag.CommandLine != all {
		t.Error("the set did not stay")
	}
}
