package test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"keyhook/test/lab"
)

// essentials are the tests of the package watch that touch what differs between
// versions of etcd.
var essentials = []string{
	"TestTheHeaderOfAResponseIsNoPosition",
	"TestAnIdleRangeAdvancesByProgress",
	"TestACompactedGapIsRepaired",
	"TestRolledBackHistoryIsRepairedInANewEpoch",
	"TestABacklogOfAnyShapeIsReadInSegmentsAndInOrder",
	"TestASparseBacklogIsReadByFewWatchers",
	"TestReadyIsNeverSaidOfHistoryThatIsCompacted",
	"TestARevisionOfAnySizeIsResumedInItsMiddle",
	"TestAnAuditFindsWhatWasLost",
	"TestATokenThatExpiresIsReplacedForEveryWatch",
	"TestAPermissionThatIsTakenAndGivenAgainLosesNothing",
	"TestTLSAndRotatedFiles",
	"TestAPartitionedMemberIsLeftForAnother",
	"TestAMemberThatIsBehindThePositionIsNoRollback",
}

// The tests of the package watch hold for every version of etcd that keyhook is to
// work with: in the short form the essential ones for the oldest, in the long form
// all of them for all. The embedded server, which they run with otherwise, is of
// the latest.
func TestEveryVersionOfEtcdIsWatchedAlike(t *testing.T) {
	versions, run := []string{lab.OldestEtcd}, "^("+strings.Join(essentials, "|")+")$"
	if long() {
		versions, run = lab.EtcdVersions(), "."
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			programs, err := lab.EtcdProgramsOf(t.Context(), version)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", run, "keyhook/watch")
			cmd.Env = append(os.Environ(), "KEYHOOK_TEST_ETCD_SERVER="+programs.Server)
			said, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			for _, name := range essentials {
				if !strings.Contains(string(said), "--- PASS: "+name+" ") {
					t.Errorf("%s did not run", name)
				}
			}
		})
	}
}
