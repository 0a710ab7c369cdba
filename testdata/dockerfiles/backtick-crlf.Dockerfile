# escape=`

FROM mcr.microsoft.com/windows/nanoserver:ltsc2022
SHELL ["powershell", "-Command"]
WORKDIR C:\app
COPY bin\* C:\app\
RUN dir C:\app `
    ; echo done ` 	
    ; exit
RUN <<EOF
echo hello
EOF
