# A file that every builder since 2014 reads.
FROM debian:bookworm-slim
MAINTAINER Jane Doe <jane@example.com>

LABEL vendor="ACME Incorporated" \
      com.example.version='1.0' \
      description=plain

ENV LANG=C.UTF-8 PATH=/opt/bin:$PATH
ENV GREETING hello   world
ARG VERSION=1.2.3

# Packages first, for they change least.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
# comments vanish
        ca-certificates \
        curl \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /srv/app
COPY package.json package-lock.json ./
ADD https://example.com/archive-${VERSION}.tar.gz /tmp/
COPY --chown=www-data:www-data . .

VOLUME /data /logs
EXPOSE 80/tcp 443/tcp
USER www-data
STOPSIGNAL SIGQUIT
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["node", "server.js"]
