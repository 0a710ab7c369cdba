FROM alpine
RUN <<EOF
# not a comment of the Dockerfile
set -eu \
  -x

FROM=here
EOF

RUN <<-'EOT' python3 - && cat <<B >/b
	print("$NOT_EXPANDED")
	EOT
body of B
B

COPY <<-config.ini <<"raw.file" /etc/app/
	[main]
		name = ${NAME:-none}
	config.ini
$HOME stays
raw.file

COPY <<X <<Y /crossed/
Y
X
X
Y

RUN 3<<EMPTY cat <&3
EMPTY
RUN ["echo", "<<EOF"]
RUN echo "<<EOF" '<<EOF' $((1<<4)) <<<word
ONBUILD COPY <<hello /hello
hello, world
hello
CMD ["sh"]
