# syntax=docker/dockerfile:1
  # escape = \
	from alpine as A
  run echo \

	# gone
    café \  

   && true
user	nobody
onbuild run --network=host make
onbuild ENV a=b
healthcheck none
c\
md true