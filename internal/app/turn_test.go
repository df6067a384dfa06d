package app

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"keyhook/checkpoint/disk"
)

func TestADirectoryInUseIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), 0
		free := began.Add(turnPatience / 2)
		got, err := inTurn(t.Context(), func() (string, error) {
			if tries++; time.Now().Before(free) {
				return "", &disk.Error{Reason: disk.ErrInUse}
			}
			return "mine", nil
		})
		if got != "mine" || err != nil || tries < 2 {
			t.Errorf("%q, %v after %d tries", got, err, tries)
		}
	})
}

func TestADirectoryThatStaysInUseIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := inTurn(t.Context(), func() (string, error) { return "", &disk.Error{Reason: disk.ErrInUse} })
		if !errors.Is(err, disk.ErrInUse) || time.Since(began) != turnPatience {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestAnotherErrorIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, damaged := time.Now(), &disk.Error{Reason: disk.ErrDamaged}
		if _, err := inTurn(t.Context(), func() (string, error) { return "", damaged }); !errors.Is(err, disk.ErrDamaged) || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
