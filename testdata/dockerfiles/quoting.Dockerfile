FROM "alpine"
ENV single='a $b "c"' double="a \"$b\" c" bare=a\ b\$c empty= quoted=""
ENV joined=a"b c"'d e'f
LABEL "com.example.key with blank"="value" multi="one \
two"
ARG a="b c" d
RUN [ "$a" = "b c" ] && echo 'it''s'
RUN ["unterminated"
RUN ["\u0041", "b\tc", "d\\e"]
COPY ["with blank", "/to [here]"]
COPY a\ b "c d" /x/
VOLUME ["/a b"]
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
EXPOSE $PORT 8000-8010/udp   53
WORKDIR /path with/blanks
USER ${UID:-1000}:${GID:-1000}
RUN echo \\
RUN echo end \\\
# a comment, since the line above does not continue
CMD echo "$HOME" 'x' \
