# The service as one static binary, with nothing around it: no shell, no package manager, no C library to patch.

# Exactly the version in rust-toolchain.toml, which stays outside (see .dockerignore): rustup would fetch it once more.
FROM rust:1.95.0-slim-trixie AS build
WORKDIR /build

# With an explicit target, the flags are for the binary and not for procedural macros, which cannot be static;
# `host-tuple` is whatever this machine is, so one file builds for x86_64 and for aarch64.
# A static glibc looks up names by itself from 2.34 on; Debian 12 and later have that.
ENV CARGO_BUILD_TARGET=host-tuple \
    RUSTFLAGS="-C target-feature=+crt-static" \
    SQLX_OFFLINE=true

# The dependencies, in a layer that only the manifests invalidate: everything of our own is empty here. The other members of
# the workspace are not built, but cargo wants to see them.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY bench/Cargo.toml bench/
COPY crates/embedded-postgres/Cargo.toml crates/embedded-postgres/
COPY tests/support/Cargo.toml tests/support/
RUN mkdir -p src bench/src crates/embedded-postgres/src tests/support/src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs bench/src/lib.rs crates/embedded-postgres/src/lib.rs tests/support/src/lib.rs \
    && cargo build --release --locked --package esim-status --bin esim-status

# The service itself. Its sources may bear times from before the layer above: cargo must not take them for built.
COPY .sqlx .sqlx
COPY crates crates
COPY migrations migrations
COPY src src
RUN touch src/main.rs src/lib.rs crates/embedded-postgres/src/lib.rs \
    && cargo build --release --locked --package esim-status --bin esim-status \
    && cp target/*/release/esim-status /esim-status \
    && mkdir /spool


FROM scratch
LABEL org.opencontainers.image.title="esim-status" \
      org.opencontainers.image.description="Receives eSIM Status webhooks and keeps every profile's history in Postgres" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"

# For `doctor` and `send`, where the service they try is behind https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY LICENSE LICENSE-APACHE LICENSE-MIT /licenses/
COPY --from=build /esim-status /esim-status
# A volume that is mounted here gets its owner: see ESIM_STATUS_SPOOL_DIR.
COPY --from=build --chown=65532:65532 /spool /spool

# Behind these addresses is the container's own network; which of them the host sees is for whoever runs it to say.
ENV ESIM_STATUS_LISTEN=0.0.0.0:8080 \
    ESIM_STATUS_ADMIN_LISTEN=0.0.0.0:9090
EXPOSE 8080 9090

# A number, so that Kubernetes can see that it is not root. Nothing is ever written but to a spool: the root may be read-only.
USER 65532:65532
STOPSIGNAL SIGTERM
# What restarts an unhealthy container must not do so because the database is away. A start may wait 30 s for its database.
HEALTHCHECK --interval=5s --timeout=3s --start-period=40s --retries=3 CMD ["/esim-status", "health", "--live"]
ENTRYPOINT ["/esim-status"]
CMD ["serve"]
