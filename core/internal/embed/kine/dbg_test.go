package kine
import ("testing";"os";"path/filepath";"runtime";"fmt";"strings";"time")
func TestDbg(t *testing.T){
	fds:=func(w string){ es,_:=os.ReadDir("/proc/self/fd"); for _,e:=range es{ l,_:=os.Readlink("/proc/self/fd/"+e.Name()); if strings.Contains(l,"state"){fmt.Println("FD",w,l)}}}
	dir:=t.TempDir(); socket:=filepath.Join(dir,"k.sock")
	c,stop:=start(t,socket,sqlite(dir))
	mode:=os.Getenv("DBG")
	if strings.Contains(mode,"w"){ w:=c.Watch(t.Context(),"/test/"); create(t,c,"/test/a","one"); <-w }
	if strings.Contains(mode,"c"){ create(t,c,"/test/a","one") }
	if strings.Contains(mode,"f"){ create(t,c,"/test/a","one"); create(t,c,"/test/a","one") }
	if strings.Contains(mode,"r"){ create(t,c,"/test/a","one"); read(t,c,"/test/a") }
	if strings.Contains(mode,"s"){ c.Status(t.Context(),c.Endpoints()[0]) }
	stop()
	fds("stopped"); time.Sleep(time.Second); runtime.GC(); fds("later")
	buf:=make([]byte,1<<20); n:=runtime.Stack(buf,true)
	for _,g:=range strings.Split(string(buf[:n]),"\n\n"){ if strings.Contains(g,"sql")||strings.Contains(g,"kine@"){fmt.Println("G",g)}}
}
