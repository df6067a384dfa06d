package disk

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"keyhook/checkpoint"
)

// holdEnv makes the test binary hold the directory that it names until its
// input ends.
const holdEnv = "KEYHOOK_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		os.Exit(hold(dir))
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(modelChecks)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func hold(dir string) int {
	s, err := Open(Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := s.Announce(Instance{ID: "a", Address: "192.0.2.1:8585", PID: os.Getpid()}); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	_, err = io.Copy(io.Discard, os.Stdin)
	if err = errors.Join(err, s.Close()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestADirectoryHasOneHolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), holdEnv+"="+dir)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = Open(Config{Dir: dir})
	refused(t, err, ErrInUse)
	if want := fmt.Sprintf("data directory %s: in use by another process: pid %d, which answers at http://192.0.2.1:8585", dir, other.Process.Pid); err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}

	if err := errors.Join(stdin.Close(), other.Wait()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatalf("after the other process has ended: %v", err)
	}
	_, err = Open(Config{Dir: dir})
	refused(t, err, ErrInUse)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A directory that the operating system keeps to itself, for whichever reason,
// comes with what to do about it.
func TestADirectoryThatCannotBeUsedSaysWhatToDo(t *testing.T) {
	for code, hint := range map[syscall.Errno]string{
		syscall.EACCES:  "create, read and write it",
		syscall.EPERM:   "create, read and write it",
		syscall.EROFS:   "read-only",
		syscall.ENOTDIR: "is a file",
	} {
		for _, kind := range []errorfs.OpKind{errorfs.OpMkdirAll, errorfs.OpCreate} {
			refuses := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == kind {
					return &fs.PathError{Op: "mkdir", Path: op.Path, Err: code}
				}
				return nil
			})
			_, err := open(Config{Dir: "data"}, errorfs.Wrap(vfs.NewMem(), refuses))
			refused(t, err, ErrAccess)
			var e *Error
			if errors.As(err, &e) && !strings.Contains(e.Hint(), hint) {
				t.Errorf("%v: the hint is %q", err, e.Hint())
			}
		}
	}
}

func TestADirectoryIsForItsOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, databaseName)} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info.Mode(), err)
		}
	}
}

// A directory that somebody has made beforehand, or has opened up since.
func TestAnOpenDirectoryIsTakenFromOthers(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // a new one, and one of ours
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
}

// One that belongs to somebody else, such as the root of a volume, is used.
func TestAnOpenDirectoryOfSomebodyElseIsWarnedOf(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg := Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil)), chmod: func(string, fs.FileMode) error { return syscall.EPERM }}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	if !strings.Contains(log.String(), "others than its owner may look into it") || !strings.Contains(log.String(), "mode=0755") {
		t.Errorf("it logs\n%s", &log)
	}
}

func TestAForeignDirectoryIsLeftAlone(t *testing.T) {
	for name, files := range map[string][]string{
		"another program's": {"important.txt"},
		"a database":        {"db/000004.log"},
		"a lock and more":   {"LOCK", "CURRENT"},
	} {
		dir := t.TempDir()
		for _, f := range files {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o700), os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		before := tree(t, dir)
		_, err := Open(Config{Dir: dir})
		t.Log(name, err)
		refused(t, err, ErrForeign)
		if after := tree(t, dir); after != before {
			t.Errorf("%s: the directory holds %s, held %s", name, after, before)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Dir: file})
	refused(t, err, ErrForeign)
	if _, err := Open(Config{}); err == nil {
		t.Error("no error without a directory")
	}
}

func TestAnEmptyVolumeIsTaken(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("data/lost+found", 0o700); err != nil {
		t.Fatal(err)
	}
	dumpOf(t, mem)
}

func TestANewerDirectoryIsRefused(t *testing.T) {
	for _, content := range []string{`{"format":2,"engine":1}`, fmt.Sprintf(`{"format":1,"engine":%d}`, engineVersion+1)} {
		mem, _ := filled(t)
		if err := writeFile(mem, "data/"+markerName, []byte(content)); err != nil {
			t.Fatal(err)
		}
		_, err := open(flushing, mem)
		refused(t, err, ErrNewer)
	}
}

func TestADirectoryOfAnOlderEngineIsBroughtUpToDate(t *testing.T) {
	mem, want := filled(t)
	if err := writeFile(mem, "data/"+markerName, []byte(`{"format":1,"engine":13}`)); err != nil {
		t.Fatal(err)
	}
	same(t, dumpOf(t, mem), want)
	d := &directory{fs: mem, path: "data"}
	if m, err := d.readMarker(); err != nil || m.Engine != int(engineVersion) {
		t.Fatalf("marker %+v, %v", m, err)
	}
}

// Whatever is missing, cut off or overwritten: the content is as it was, or the
// error says what is wrong. Nothing starts anew.
func TestADamagedDirectoryIsNeverTakenForAnother(t *testing.T) {
	damage := map[string]func([]byte) []byte{
		"missing": nil,
		"empty":   func([]byte) []byte { return nil },
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
		"zeroed":  func(b []byte) []byte { return make([]byte, len(b)) },
		"flipped in the middle": func(b []byte) []byte {
			for i := range min(64, len(b)/2) {
				b[len(b)/2+i] ^= 0xff
			}
			return b
		},
	}
	whole, want := filled(t)
	for how, change := range damage {
		for _, name := range files(t, whole) {
			mem := vfs.NewMem()
			if ok, err := vfs.Clone(whole, mem, "data", "data"); !ok || err != nil {
				t.Fatalf("clone: %v, %v", ok, err)
			}
			if change == nil {
				if err := mem.Remove(name); err != nil {
					t.Fatal(err)
				}
			} else {
				content, err := readAll(mem, name)
				if err != nil {
					t.Fatal(err)
				}
				if err := writeFile(mem, name, change(content)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := tryDump(t, mem)
			switch {
			case err != nil && name != "data/"+lockName:
				t.Logf("%s %s: %v", name, how, err)
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
					t.Errorf("%s %s: %v, want ErrDamaged", name, how, err)
				}
			case err != nil || got != want:
				t.Errorf("%s %s: the content differs (%d bytes, %d before), %v", name, how, len(got), len(want), err)
			}
		}
	}
}

func TestACrashWhileADirectoryIsCreatedLeavesOneThatIsTaken(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	mem := vfs.NewCrashableMem()
	var crashes []*vfs.MemFS
	s, err := open(flushing, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			for _, percent := range []int{0, 50, 100} {
				crashes = append(crashes, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
		}
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range crashes {
		got, err := tryDump(t, c)
		if err != nil {
			t.Errorf("crash %d: %v", i, err)
		} else {
			same(t, got, dump(t, s))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 50 {
		t.Fatalf("only %d crashes", len(crashes))
	}
}

func TestTheHolderOfADirectoryIsFound(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadInstance(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("in an empty directory: %v", err)
	}
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Instance{{ID: "a", Address: "127.0.0.1:8585", PID: 1}, {ID: "b", Address: "[::1]:1", PID: 2}} {
		if err := s.Announce(want); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadInstance(dir); err != nil || got != want {
			t.Fatalf("instance %+v, %v", got, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadInstance(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("after the close: %v", err)
	}

	if err := os.WriteFile(filepath.Join(dir, instanceName), []byte(`{"id":"dead"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if in, err := ReadInstance(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("what a killed process has left is still there: %+v, %v", in, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s, err := open(flushing, vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &checkpoint.Commit{Term: 1, Sequence: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	if _, err := s.Lookup(t.Context(), 0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("lookup: %v", err)
	}
}

// refused expects an error for people: a reason, the directory, and what to do.
func refused(t *testing.T, err, reason error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, reason) || e.Hint() == "" || e.Dir == "" {
		t.Fatalf("%v, want %v with a hint", err, reason)
	}
}

// filled returns a directory with tables and a log, and what it holds.
func filled(t *testing.T) (*vfs.MemFS, string) {
	t.Helper()
	script, states := script(t)
	mem := vfs.NewMem()
	s, err := open(flushing, mem)
	if err != nil {
		t.Fatal(err)
	}
	for i := range script {
		if err := s.Commit(t.Context(), &script[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, states[len(script)]
}

func files(t *testing.T, mem *vfs.MemFS) (names []string) {
	t.Helper()
	for _, dir := range []string{"data", "data/db"} {
		list, err := mem.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range list {
			if name != databaseName {
				names = append(names, dir+"/"+name)
			}
		}
	}
	return names
}

func tryDump(t *testing.T, filesystem vfs.FS) (string, error) {
	t.Helper()
	s, err := open(flushing, filesystem)
	if err != nil {
		return "", err
	}
	content, err := dumpErr(t, s)
	return content, errors.Join(err, s.Close())
}

func readAll(filesystem vfs.FS, name string) ([]byte, error) {
	f, err := filesystem.Open(name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, f)
	return b.Bytes(), errors.Join(err, f.Close())
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}
