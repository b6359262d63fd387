# The image holds the binary and the CA certificates, nothing else. BuildKit is needed (the default since Docker 23):
#
#   docker build --build-arg VERSION=v1.2.3 --build-arg COMMIT="$(git rev-parse HEAD)" -t weir:v1.2.3 .

# A full version, Go's and Debian's, is the pin. To pin the bytes as well, append the digest that your registry shows
# for this tag: golang:1.26.8-bookworm@sha256:...
FROM golang:1.26.8-bookworm AS build

RUN apt-get update \
 && apt-get install -y --no-install-recommends libcap2-bin \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .

ARG VERSION=dev
ARG COMMIT=unknown
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    make build VERSION="$VERSION" COMMIT="$COMMIT"

# A process that is not root gets the capabilities that the container is given only from the file that it executes.
# They are kept in the extended attribute security.capability, which BuildKit's COPY keeps too, as long as it does not
# change the owner: no --chown below. The kernel executes such a file with all three or not at all ("operation not
# permitted"): a container that is not given them cannot even print --help.
RUN setcap cap_bpf,cap_net_admin,cap_perfmon=ep bin/weir

# An empty volume takes over the owner of the folder that it is mounted on.
RUN mkdir -p /state/var/lib/weir


FROM scratch

ARG VERSION=dev
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="Counts every packet in the kernel and reports the flows" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"

COPY --from=build --chown=65532:65532 /state /

# For a Brain behind https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/bin/weir /weir

# A number, for Kubernetes to see by itself that it is not root.
USER 65532:65532

# No HEALTHCHECK: it would need a shell and a client inside. Whoever runs the container asks GET /healthz and /readyz.
ENTRYPOINT ["/weir"]
