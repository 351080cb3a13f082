# shellcheck shell=bash
# HDFS and YARN for scripts/cluster.sh, which sources it: one process each, on loopback, their
# configuration in $state/conf, which is what HADOOP_CONF_DIR has to name, with a spark.conf for
# spark-submit beside it.

HADOOP_ARTIFACTS=hadoop-client-minicluster,bcprov-jdk18on,bcpkix-jdk18on,bcutil-jdk18on

hadoop_class() {
    case $1 in
    namenode) printf org.apache.hadoop.hdfs.server.namenode.NameNode ;;
    datanode) printf org.apache.hadoop.hdfs.server.datanode.DataNode ;;
    resourcemanager) printf org.apache.hadoop.yarn.server.resourcemanager.ResourceManager ;;
    nodemanager) printf org.apache.hadoop.yarn.server.nodemanager.NodeManager ;;
    esac
}

# Prints the version of the Hadoop that Spark has.
hadoop_version() {
    local jar
    for jar in "$SPARK_HOME"/jars/hadoop-client-api-*.jar; do
        jar=${jar##*/hadoop-client-api-}
        printf '%s\n' "${jar%.jar}"
    done
}

# The jars that Spark does not have, into $state/hadoop-VERSION; they outlive `stop`.
fetch_hadoop() {
    local version part
    version=$(hadoop_version)
    case $version in
    3.[4-9].* | 3.[1-9][0-9].* | [4-9].*) ;;
    *) give_up "--manager yarn needs a Spark with Hadoop 3.4 or newer, not ${version:-none} ($SPARK_HOME)" ;;
    esac
    hadoop_jars=$state/hadoop-$version
    [[ -d $hadoop_jars ]] && return
    command -v mvn >/dev/null || give_up "--manager yarn needs Maven for the jars of Hadoop: install mvn (Debian, Ubuntu: apt-get install maven)"
    say "fetching Hadoop $version with Maven (the first time takes a minute)"
    part=$hadoop_jars.part
    rm -rf -- "$part"
    mvn --batch-mode --quiet --file "$ROOT/scripts/lib/hadoop/pom.xml" \
        "-Dhadoop.version=$version" dependency:copy-dependencies \
        "-DincludeArtifactIds=$HADOOP_ARTIFACTS" "-DoutputDirectory=$part" >"$state/logs/maven.log" 2>&1 ||
        give_up "Maven could not fetch Hadoop $version: $(grep -m 1 ERROR "$state/logs/maven.log" || tail -n 1 "$state/logs/maven.log")"
    mv -- "$part" "$hadoop_jars"
}

start_yarn() {
    local java hadoop_jars name
    fetch_hadoop
    configure_hadoop
    configure_spark
    printf '%s\n' "$state/conf" >"$state/url"
    # Of the Spark and the Hadoop that the user may have configured, nothing.
    unset HADOOP_CONF_DIR YARN_CONF_DIR HADOOP_HOME HADOOP_OPTS CLASSPATH
    java=("$JAVA_HOME/bin/java" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1
        -Djava.net.preferIPv4Stack=true -cp "$state/conf:$hadoop_jars/*:$SPARK_HOME/jars/*")
    "${java[@]}" "$(hadoop_class namenode)" -format -nonInteractive >"$state/logs/format.log" 2>&1 ||
        failed "HDFS could not be formatted"
    for name in namenode datanode resourcemanager nodemanager; do
        launch "$name" "${java[@]}" "$(hadoop_class "$name")"
    done
    wait_until is_up "not every part had registered"
}

# A NodeManager in YARN, a DataNode in HDFS, and HDFS no longer in its safe mode.
yarn_is_up() {
    [[ -s $state/url && -s $state/web ]] || return 1
    [[ $(running | wc -l) -eq 4 ]] || return 1
    "$VENV/bin/python" -I - "$(<"$state/web")" <<'PY' 2>/dev/null
import json, sys, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def ask(url):
    with opener.open(url, timeout=5) as answer:
        return json.load(answer)

yarn, hdfs = sys.argv[1].split()
nodes = ask(f"{yarn}/ws/v1/cluster/metrics")["clusterMetrics"]["activeNodes"]
(state,) = ask(f"{hdfs}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState")["beans"]
sys.exit(not (nodes and state["NumLiveDataNodes"] and state["FSState"] == "Operational"))
PY
}

# Everything on loopback, at ports that nobody has now; what nobody needs to know takes port 0.
configure_hadoop() {
    local rpc web yarn_web client scheduler tracker admin megabytes=${memory%[mg]}
    [[ $memory == *m ]] || megabytes=$((megabytes * 1024))
    read -r rpc web client scheduler tracker admin yarn_web < <(free_ports 7)
    printf 'http://127.0.0.1:%s http://127.0.0.1:%s\n' "$yarn_web" "$web" >"$state/web"
    mkdir -p -- "$state/conf"
    cat >"$state/conf/log4j2.properties" <<'LOG'
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
LOG
    properties core-site.xml \
        fs.defaultFS "hdfs://127.0.0.1:$rpc" \
        hadoop.tmp.dir "$state/local"
    # A client that closes a file asks whether its last block is there, and waits 400 ms when it is
    # not: the store's files are many and small.
    properties hdfs-site.xml \
        dfs.client.block.write.locateFollowingBlock.initial.delay.ms 10 \
        dfs.client.block.write.locateFollowingBlock.retries 12 \
        dfs.replication 1 \
        dfs.namenode.http-address "127.0.0.1:$web" \
        dfs.namenode.safemode.extension 0 \
        dfs.namenode.name.dir "$state/hdfs/name" \
        dfs.datanode.data.dir "$state/hdfs/data" \
        dfs.datanode.address 127.0.0.1:0 \
        dfs.datanode.http.address 127.0.0.1:0 \
        dfs.datanode.ipc.address 127.0.0.1:0
    properties yarn-site.xml \
        yarn.resourcemanager.hostname 127.0.0.1 \
        yarn.resourcemanager.bind-host 127.0.0.1 \
        yarn.resourcemanager.address "127.0.0.1:$client" \
        yarn.resourcemanager.scheduler.address "127.0.0.1:$scheduler" \
        yarn.resourcemanager.resource-tracker.address "127.0.0.1:$tracker" \
        yarn.resourcemanager.admin.address "127.0.0.1:$admin" \
        yarn.resourcemanager.webapp.address "127.0.0.1:$yarn_web" \
        yarn.resourcemanager.scheduler.class \
        org.apache.hadoop.yarn.server.resourcemanager.scheduler.fifo.FifoScheduler \
        yarn.scheduler.minimum-allocation-mb 128 \
        yarn.nodemanager.hostname 127.0.0.1 \
        yarn.nodemanager.address 127.0.0.1:0 \
        yarn.nodemanager.localizer.address 127.0.0.1:0 \
        yarn.nodemanager.webapp.address 127.0.0.1:0 \
        yarn.nodemanager.collector-service.address 127.0.0.1:0 \
        yarn.nodemanager.local-dirs "$state/work/local" \
        yarn.nodemanager.log-dirs "$state/work/logs" \
        yarn.nodemanager.delete.debug-delay-sec 0 \
        yarn.nodemanager.resource.memory-mb "$megabytes" \
        yarn.nodemanager.vmem-check-enabled false \
        yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage 99.5
}

# conf/spark-yarn.conf in the size of this cluster, for --properties-file. The executors take Spark's
# jars from where they are; otherwise each submission uploads some 400 MB of them.
configure_spark() {
    {
        cat -- "$ROOT/conf/spark-yarn.conf"
        printf '\n# The sizes of the cluster for trials.\n'
        printf '%s\n' 'spark.executor.instances 1' 'spark.executor.cores 1' \
            'spark.executor.memory 512m' 'spark.executor.memoryOverhead 512m' \
            'spark.driver.memory 512m' "spark.yarn.jars local:$SPARK_HOME/jars/*"
    } >"$state/conf/spark.conf"
}

# properties FILE NAME VALUE ...: a file of Hadoop's configuration.
properties() {
    local file=$state/conf/$1
    shift
    {
        printf '<configuration>\n'
        while (($#)); do
            printf '  <property><name>%s</name><value>%s</value></property>\n' "$1" "$(escaped "$2")"
            shift 2
        done
        printf '</configuration>\n'
    } >"$file"
}

# Of XML: a folder may have such a name.
escaped() {
    local text=${1//&/&amp;}
    printf '%s' "${text//</&lt;}"
}
