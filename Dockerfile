# The whole program in one image: gateway (serve), simulators (sandbox), checks (check).
#
# Builds with or without BuildKit. At run time it writes to /data only, so the root file system may be read-only; there is no
# shell, and no user but "nonroot" (65532); any other one with group 0 works as well.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# Dependencies have a layer of their own, rebuilt only when Cargo.toml or Cargo.lock change.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir -p src tests/it \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs tests/it/main.rs \
    && cargo build --profile dist --features jemalloc --locked --bin examgate

# cargo compares time stamps, and the copied sources may be older than the placeholders above.
COPY src src
RUN touch src/main.rs src/lib.rs \
    && cargo build --profile dist --features jemalloc --locked --bin examgate \
    && mkdir /data \
    && chmod 0770 /data

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.2.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="examgate" \
      org.opencontainers.image.description="One vendor-neutral REST API in front of several exam vendors" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

COPY LICENSE /usr/share/doc/examgate/LICENSE
COPY --from=build /build/target/dist/examgate /usr/local/bin/examgate
# A new named volume inherits owner and mode of this directory. Group 0 may do what the owner may, so that any user id of that
# group works, as OpenShift runs images. Without a slash at its end, the copy keeps the mode.
COPY --from=build --chown=65532:0 /data /data

USER 65532:65532
# The defaults of the store, sqlite:examgate.db and file:examgate.key, are relative: here they are in the volume.
WORKDIR /data
VOLUME /data

# Loopback inside a container is unreachable from outside. These two override server.listen and server.admin_listen.
ENV EXAMGATE_CONFIG=/etc/examgate/examgate.toml \
    EXAMGATE__SERVER__LISTEN=0.0.0.0:8080 \
    EXAMGATE__SERVER__ADMIN_LISTEN=0.0.0.0:9090

EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/examgate", "probe", "--url", "http://127.0.0.1:9090/livez"]

ENTRYPOINT ["/usr/local/bin/examgate"]
CMD ["serve"]
