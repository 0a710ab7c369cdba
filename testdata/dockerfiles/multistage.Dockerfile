# syntax=docker/dockerfile:1
# check=skip=JSONArgsRecommended

ARG GO_VERSION=1.22
ARG BASE=gcr.io/distroless/static:nonroot

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine AS Build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY --link go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod,sharing=locked \
    go mod download
RUN --mount=type=bind,target=. \
    --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,id=build-$TARGETARCH,target=/root/.cache/go-build \
    --network=none \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /out/app ./cmd/app

FROM build as test
RUN --mount=type=secret,id=token,env=TOKEN,required \
    --mount=type=tmpfs,target=/tmp,size=64m \
    --security=insecure go test ./...

FROM scratch
COPY --from=build --chmod=0755 /out/app /app
COPY --from=2 --parents --exclude=*.md --exclude=**/testdata ./assets/./css /
HEALTHCHECK --interval=30s --timeout=3s --start-period=1m --start-interval=500ms --retries=5 \
    CMD ["/app", "health"]
CMD /app serve
