# syntax=docker/dockerfile:1

# The image of keyhook: one static binary and the roots of the web's trust.
# The tag nodev leaves the servers of `keyhook dev` out.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ENV GOCACHE=/go/build-cache
ARG TARGETOS TARGETARCH VERSION=devel
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/build-cache \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -tags nodev -ldflags "-s -w -X keyhook/internal/cli.version=$VERSION" \
    -o /out/keyhook ./cmd/keyhook
# The data directory is made here, because scratch has no shell to make it with
# the owner that keyhook runs as.
RUN install -d -m 0700 /out/data

FROM scratch
LABEL org.opencontainers.image.title="keyhook" \
      org.opencontainers.image.description="etcd changes, through CEL rules, to webhooks and NATS" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/keyhook /keyhook
COPY --from=build --chown=65532:65532 /out/data /var/lib/keyhook
USER 65532:65532
WORKDIR /etc/keyhook
VOLUME /var/lib/keyhook
EXPOSE 8585
# Alive, not ready: what waits for etcd or for a receiver needs no restart.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["/keyhook", "health", "-c", "/etc/keyhook/keyhook.yaml"]
ENTRYPOINT ["/keyhook"]
CMD ["run", "-c", "/etc/keyhook/keyhook.yaml"]
