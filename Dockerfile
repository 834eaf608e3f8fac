# One static binary and nothing else: no shell, no package manager, no C library to patch.

# Exactly the version in rust-toolchain.toml, which .dockerignore leaves out: rustup would download the toolchain again.
FROM rust:1.95.0-slim-trixie AS build
WORKDIR /build

# With an explicit target, the flags apply to the binary and not to procedural macros, which cannot be static.
# `host-tuple` is the target of this machine, so one file builds for x86_64 and for aarch64.
# A static glibc resolves host names without shared libraries from 2.34 on; Debian 12 and later have that.
ENV CARGO_BUILD_TARGET=host-tuple \
    RUSTFLAGS="-C target-feature=+crt-static" \
    SQLX_OFFLINE=true

# The dependencies, in a layer that only the manifests invalidate: our own sources are empty files here. The other members
# of the workspace are not built, but cargo requires that they exist.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY bench/Cargo.toml bench/
COPY crates/embedded-postgres/Cargo.toml crates/embedded-postgres/
COPY tests/support/Cargo.toml tests/support/
RUN mkdir -p src bench/src crates/embedded-postgres/src tests/support/src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs bench/src/lib.rs crates/embedded-postgres/src/lib.rs tests/support/src/lib.rs \
    && cargo build --release --locked --package esim-status --bin esim-status

# The service itself. Its files may be older than the layer above; `touch` keeps cargo from treating them as built.
COPY .sqlx .sqlx
COPY crates crates
COPY migrations migrations
COPY providers providers
COPY src src
COPY templates templates
# Optional, for `--version` and the metrics: --build-arg GIT_COMMIT=$(git rev-parse --short HEAD)
ARG GIT_COMMIT
RUN touch src/main.rs src/lib.rs crates/embedded-postgres/src/lib.rs \
    && cargo build --release --locked --package esim-status --bin esim-status \
    && cp target/*/release/esim-status /esim-status \
    && mkdir /spool


FROM scratch
LABEL org.opencontainers.image.title="esim-status" \
      org.opencontainers.image.description="Receives eSIM Status webhooks and keeps every profile's history in Postgres" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"

# For `doctor` and `send`, if the service that they call is behind https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY LICENSE LICENSE-APACHE LICENSE-MIT /licenses/
COPY --from=build /esim-status /esim-status
# A volume mounted here gets this folder's owner: see ESIM_STATUS_SPOOL_DIR.
COPY --from=build --chown=65532:65532 /spool /spool

# These addresses are in the container's own network; the operator decides which of them the host publishes.
ENV ESIM_STATUS_LISTEN=0.0.0.0:8080 \
    ESIM_STATUS_ADMIN_LISTEN=0.0.0.0:9090
EXPOSE 8080 9090

# A number, so that Kubernetes can verify that it is not root. Only a spool is written: the root may be read-only.
USER 65532:65532
STOPSIGNAL SIGTERM
# --live, so that a supervisor does not restart the container because the database is away. A start may wait 30 s for its
# database.
HEALTHCHECK --interval=5s --timeout=3s --start-period=40s --retries=3 CMD ["/esim-status", "health", "--live"]
ENTRYPOINT ["/esim-status"]
CMD ["serve"]
