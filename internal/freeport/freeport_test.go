package freeport

import (
	"net"
	"testing"
)

func TestAnAddressCanBeListenedOn(t *testing.T) {
	l, err := net.Listen("tcp", Address(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestPortsAreNotThoseThatTheKernelGivesAway(t *testing.T) {
	for _, tt := range [][4]int{
		{32768, 60999, 10_000, 32768},
		{10_500, 60999, 61_000, 65_536},
		{1024, 65_535, 10_000, 65_536}, // there are no others
	} {
		if from, to := choose(tt[0], tt[1]); from != tt[2] || to != tt[3] {
			t.Errorf("beside %d to %d: %d to %d", tt[0], tt[1], from, to)
		}
	}
}
